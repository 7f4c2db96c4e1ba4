# bash completion for atdatafs. Commands and options are those that the installed program tells of
# in its --help; names come from the index that the command line means.

# Names are anybody's text: they are never given to `compgen -W`, which would run what they hold.

# Runs the program, not for long: an index may be far away.
_atdatafs_ask() {
    timeout 3 "${_atdatafs_program[@]}" "$@" 2>/dev/null </dev/null
}

# The words up to the cursor, in _atdatafs_words: bash splits at ':', '=' and '@' too, as URLs have
# them. Each is looked for in the line, in order; what nothing separates belongs together.
_atdatafs_read_words() {
    local rest=${COMP_LINE:0:COMP_POINT} word i gap
    _atdatafs_words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        gap=${rest%%[![:space:]]*}
        rest=${rest:${#gap}}
        ((i == COMP_CWORD)) && [[ ${#word} -gt ${#rest} ]] && word=$rest
        rest=${rest:${#word}}
        if [[ $i -gt 0 && -z $gap ]]; then
            _atdatafs_words[-1]+=$word
        else
            _atdatafs_words+=("$word")
        fi
    done
}

# Adds the lines of standard input that begin as the word does, quoted.
_atdatafs_add() {
    local line prefix
    prefix=${cur//\\/}
    while IFS= read -r line; do
        [[ $line == "$prefix"* ]] && COMPREPLY+=("$(printf '%q' "$line")")
    done
}

_atdatafs_add_files() { # a pattern of file names, or nothing
    local file
    compopt -o filenames 2>/dev/null
    while IFS= read -r file; do
        [[ -d $file || -z $1 || $file =~ $1 ]] && COMPREPLY+=("$file")
    done < <(compgen -f -- "$cur")
}

_atdatafs_add_directories() {
    local file
    compopt -o filenames 2>/dev/null
    while IFS= read -r file; do
        COMPREPLY+=("$file")
    done < <(compgen -d -- "$cur")
}

_atdatafs_commands() {
    _atdatafs_ask --help | sed -n '/^commands/,$s/^  \([a-z][a-z-]*\) .*/\1/p'
}

_atdatafs_sub_commands() { # of $1
    _atdatafs_ask "$1" --help | sed -n '/^examples/q; s/^  \([a-z][a-z-]*\) .*/\1/p'
}

# What stands before two blanks on lines that begin with an option.
_atdatafs_options() {
    _atdatafs_ask "$@" --help | sed -n '/^examples/q; s/^  \(-.*\)/\1/p' | sed 's/  .*//' |
        grep -oE -- '(^|[ ,])--?[A-Za-z][a-z-]*' | grep -oE -- '-.*'
}

# -i and -o as they stand on the command line, for the questions.
_atdatafs_read_index() {
    local i word value
    _atdatafs_index=()
    for ((i = 1; i < ${#_atdatafs_words[@]} - 1; i++)); do
        word=${_atdatafs_words[i]}
        [[ $word == -- ]] && break
        value=${_atdatafs_words[i + 1]}
        case $word in
            -i | --index | -o) ((i + 1 < ${#_atdatafs_words[@]} - 1)) && _atdatafs_index+=("$word" "$value") ;;
            -i?* | --index=* | -o?*) _atdatafs_index+=("$word") ;;
        esac
    done
}

# As "ls --names" has them, or as references of the library, which decodes nothing in them.
_atdatafs_names() {
    if [[ $cur == @* ]]; then
        _atdatafs_ask ls --names "${_atdatafs_index[@]}" | sed -n '/%/!s,^,@local/,p'
    else
        _atdatafs_ask ls --names "${_atdatafs_index[@]}"
    fi
}
_atdatafs_schemas() { _atdatafs_ask schema list --names "${_atdatafs_index[@]}"; }

_atdatafs_complete_words() { # the command, in one word or two
    case $1 in
        publish)
            _atdatafs_add_files '\.(tar|tgz|tar\.(gz|bz2|xz))$'
            _atdatafs_add < <(_atdatafs_names)
            ;;
        show)
            _atdatafs_add < <(_atdatafs_names)
            _atdatafs_add_files
            ;;
        status) _atdatafs_add_directories ;;
        'schema show' | 'schema python') _atdatafs_add < <(_atdatafs_schemas) ;;
        'schema publish') _atdatafs_add_files '\.json$' ;;
        'schema infer') _atdatafs_add_files '\.(tar|tgz|tar\.(gz|bz2|xz))$' ;;
        'schema list' | gc | doctor) ;;
        *) _atdatafs_add < <(_atdatafs_names) ;;
    esac
}

_atdatafs() {
    local cur previous command kept
    local -a _atdatafs_words _atdatafs_index _atdatafs_program
    COMPREPLY=()
    _atdatafs_read_words
    _atdatafs_program=("${_atdatafs_words[0]/#\~\//$HOME/}")
    cur=${_atdatafs_words[-1]}
    previous=${_atdatafs_words[-2]}
    command=${_atdatafs_words[1]}
    _atdatafs_read_index
    if ((${#_atdatafs_words[@]} == 2)); then
        if [[ $cur == -* ]]; then
            _atdatafs_add < <(_atdatafs_options; echo -o)
        else
            _atdatafs_add < <(_atdatafs_commands)
            _atdatafs_add_directories
        fi
    elif ! _atdatafs_commands | grep -qxF -- "$command"; then
        _atdatafs_add_directories # a mount point
    elif [[ $command == schema && ${#_atdatafs_words[@]} -eq 3 ]]; then
        _atdatafs_add < <(_atdatafs_sub_commands schema)
    else
        [[ $command == schema ]] && command="schema ${_atdatafs_words[2]}"
        case $previous in
            -i | --index)
                compopt -o nospace 2>/dev/null
                _atdatafs_add < <(printf '%s\n' sqlite: redis:// rediss:// unix:// redis+sentinel://)
                ;;
            -o)
                compopt -o nospace 2>/dev/null
                _atdatafs_add < <(printf '%s\n' store=s3:// endpoint= env_file= profile= region= state_dir=)
                ;;
            *)
                if [[ $cur == -* ]]; then
                    # shellcheck disable=SC2086 # one word or two
                    _atdatafs_add < <(_atdatafs_options $command)
                else
                    _atdatafs_complete_words "$command"
                fi
                ;;
        esac
    fi
    # Bash replaces only what follows the last character that it splits at.
    kept=${cur%"${cur##*[:=@]}"}
    if [[ -n $kept ]]; then
        local i last
        for ((i = 0; i < ${#COMPREPLY[@]}; i++)); do
            last=${kept: -1}
            [[ $COMP_WORDBREAKS == *"$last"* ]] && COMPREPLY[i]=${COMPREPLY[i]#"$kept"}
        done
    fi
}

complete -F _atdatafs atdatafs
