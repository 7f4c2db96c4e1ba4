extern int atd_placeholder_sample; int atd_placeholder_sample;
