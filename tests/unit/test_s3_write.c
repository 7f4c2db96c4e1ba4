#include <criterion/criterion.h>
Test(s3_write, x) {}
