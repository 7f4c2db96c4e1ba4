extern int atd_placeholder_dotenv; int atd_placeholder_dotenv;
