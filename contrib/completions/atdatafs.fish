# fish completion for atdatafs. Commands and options are those that the installed program tells of
# in its --help; names come from the index that the command line means.

# Runs the program, not for long: an index may be far away.
function __atdatafs_ask
    set -l words (commandline -opc)
    timeout 3 $words[1] $argv 2>/dev/null </dev/null
end

function __atdatafs_commands
    __atdatafs_ask --help | sed -n '/^commands/,$s/^  \([a-z][a-z-]*\) .*/\1/p'
end

# "ls", "schema show"; nothing: a mount, or not yet known.
function __atdatafs_command
    set -l words (commandline -opc)
    test (count $words) -ge 2; or return
    contains -- $words[2] (__atdatafs_commands); or return
    if test $words[2] = schema; and test (count $words) -ge 3
        echo schema
        echo $words[3]
    else
        echo $words[2]
    end
end

# -i and -o as they stand on the command line, for the questions.
function __atdatafs_index
    set -l words (commandline -opc)
    set -l i 3
    while test $i -le (count $words)
        switch $words[$i]
            case --
                return
            case -i --index -o
                set -l next (math $i + 1)
                if test $next -le (count $words)
                    echo $words[$i]
                    echo $words[$next]
                end
            case '-i?*' '--index=*' '-o?*'
                echo $words[$i]
        end
        set i (math $i + 1)
    end
end

function __atdatafs_options
    __atdatafs_ask $argv --help | sed -n '/^examples/q; s/^  \(-.*\)/\1/p' | sed 's/  .*//' \
        | string match -ra -- '(?<=^|[ ,])--?[A-Za-z][a-z-]*'
end

function __atdatafs_arguments
    set -l command (__atdatafs_command)
    set -l words (commandline -opc)
    set -l cur (commandline -ct)
    if test (count $words) -eq 1
        if string match -q -- '-*' $cur
            __atdatafs_options
            printf "%s\n" -o
        else
            __atdatafs_commands
            __fish_complete_directories $cur
        end
        return
    end
    if test -z "$command"
        __fish_complete_directories $cur
        return
    end
    switch $words[-1]
        case -i --index
            printf '%s\n' sqlite: redis:// rediss:// unix:// redis+sentinel://
            return
        case -o
            printf '%s\n' store=s3:// endpoint= env_file= profile= region= state_dir=
            return
    end
    if string match -q -- '-*' $cur
        __atdatafs_options $command
        return
    end
    switch "$command"
        case schema
            __atdatafs_ask schema --help | sed -n '/^examples/q; s/^  \([a-z][a-z-]*\) .*/\1/p'
        case publish show
            __atdatafs_ask ls --names (__atdatafs_index)
            __fish_complete_path $cur
        case status
            __fish_complete_directories $cur
        case 'schema show' 'schema python'
            __atdatafs_ask schema list --names (__atdatafs_index)
        case 'schema publish' 'schema infer'
            __fish_complete_path $cur
        case 'schema list' gc doctor
        case '*'
            __atdatafs_ask ls --names (__atdatafs_index)
    end
end

complete -c atdatafs -f -a '(__atdatafs_arguments)'
