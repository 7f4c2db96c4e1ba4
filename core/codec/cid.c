extern int atd_placeholder_cid; int atd_placeholder_cid;
