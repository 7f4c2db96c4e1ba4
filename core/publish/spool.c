#include "publish/spool.h"
