extern int atd_placeholder_dali_idx; int atd_placeholder_dali_idx;
