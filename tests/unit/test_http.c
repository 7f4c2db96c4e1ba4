#include <criterion/criterion.h>
Test(http, nothing) {}
