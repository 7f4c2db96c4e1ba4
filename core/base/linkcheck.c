/* The empty body of the link-check modules that CMakeLists.txt makes, one a layer. */
extern int atd_linkcheck_unused;
int atd_linkcheck_unused;
