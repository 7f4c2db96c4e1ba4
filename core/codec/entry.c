extern int atd_placeholder_entry; int atd_placeholder_entry;
