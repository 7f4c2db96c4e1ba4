extern int atd_placeholder_array; int atd_placeholder_array;
