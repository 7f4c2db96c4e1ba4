#include "publish/inspect.h"
