# shellcheck shell=bash
# The re-* commands, as functions of the shell that runs a process's program.
#
# A call becomes one JSON list, ["save", "<working directory>", "<argument>", ...], written to the inherited descriptor
# RE_OUT; the host applies the rules.  No process is started.  Where the effect must be done before the next command
# runs (files are taken over as they are saved) the call waits for its own id: the program's first shell on RE_IN, any
# other on a FIFO that it makes.  Every call succeeds.
#
# Records are "<shell>.<call> <kind><wait> <piece>", at most 2 KiB each, so that one write is one record, whoever else
# writes: kind is = (whole), ( (first), + (next) or ) (last); wait is ? (on RE_IN), & (on the
# FIFO) or ! (not at all).  A newline stands before each too: it ends what anybody else has begun to write there, which
# would spoil the record, and leave its shell waiting.  See flow/channel.py.

re-save()            { { local -; set +eux; } 2>/dev/null; __re_save "$@"; }
re-save-list()       { { local -; set +eux; } 2>/dev/null; __re_send '?' save-list "$PWD" "$@"; }
re-save-file()       { { local -; set +eux; } 2>/dev/null; __re_send '?' save-file "$PWD" "$@"; }
re-save-file-list()  { { local -; set +eux; } 2>/dev/null; __re_send '?' save-file-list "$PWD" "$@"; }
re-save-dir()        { { local -; set +eux; } 2>/dev/null; __re_send '?' save-dir "$PWD" "$@"; }
re-save-dir-list()   { { local -; set +eux; } 2>/dev/null; __re_send '?' save-dir-list "$PWD" "$@"; }
re-export()          { { local -; set +eux; } 2>/dev/null; __re_send '?' export "$PWD" "$@"; }
re-info()            { { local -; set +eux; } 2>/dev/null; __re_send '!' info "$PWD" "$@"; }
re-warning()         { { local -; set +eux; } 2>/dev/null; __re_send '!' warning "$PWD" "$@"; }
re-error()           { { local -; set +eux; } 2>/dev/null; __re_send '!' error "$PWD" "$@"; }
re-progress()        { { local -; set +eux; } 2>/dev/null; __re_send '!' progress "$PWD" "$@"; }
re-run()             { { local -; set +eux; } 2>/dev/null; __re_send '!' run "$PWD" "$@"; }
re-annotate-entity() { { local -; set +eux; } 2>/dev/null; __re_send '!' annotate-entity "$PWD" "$@"; }
re-checkrc()         { { local __re_rc=$? -; set +eux; } 2>/dev/null; __re_send '!' checkrc "$PWD" "$__re_rc" "$@"; }
_re-checkrc()        { { local -; set +eux; } 2>/dev/null; __re_send '!' checkrc "$PWD" "$@"; }
re-import()          { { local -; set +eux; } 2>/dev/null; . "$RE_RUNTIME/import.sh"; re-import "$@"; }

# A value is waited for where it may stand for a file: by its name, as a quoted text, or as an object that names it.
__re_save() {
    if [[ $# == 2 && $2 != *[\"{$'\n']* && ! -e $2 ]]; then
        __re_send '!' save-value "$PWD" "$@"
    else
        __re_send '?' save "$PWD" "$@"
    fi
}

# __re_send WAIT NAME DIRECTORY ARGUMENT...
__re_send() {
    local wait=$1 text='[' part id at reply IFS=' '
    shift
    part=$*
    if ((${#part} <= 400)) && [[ $part != *[!a-zA-Z0-9\ _./:,=+@%-]* ]]; then
        builtin printf -v part '"%s",' "$@"
        text+=$part
    else
        local LC_ALL=C # bytes are what is counted, cut and escaped; changing the locale costs 30 us
        for part; do
            part=${part//\\/\\\\}
            part=${part//\"/\\\"}
            [[ $part == *[$'\001'-$'\037']* ]] && __re_controls
            text+="\"$part\","
        done
    fi
    text=${text%,}']'
    id=$BASHPID.$((++__re_calls))
    if [[ $wait == '?' && $BASHPID != "$RE_SHELL" ]]; then
        if __re_private; then wait='&'; else wait='!'; fi
    fi
    if ((${#text} <= 1900)); then
        builtin printf '\n%s =%s %s\n' "$id" "$wait" "$text" >&"$RE_OUT"
    else
        builtin printf '\n%s (%s %s\n' "$id" "$wait" "${text:0:1900}" >&"$RE_OUT"
        for ((at = 1900; ${#text} - at > 1900; at += 1900)); do
            builtin printf '\n%s +%s %s\n' "$id" "$wait" "${text:at:1900}" >&"$RE_OUT"
        done
        builtin printf '\n%s )%s %s\n' "$id" "$wait" "${text:at}" >&"$RE_OUT"
    fi
    if [[ $wait == '?' ]]; then
        # some 100 us awake: to fall asleep and be woken takes longer than most answers
        for ((at = 0; at < 30; at++)); do builtin read -t 0 -u "$RE_IN" && break; done
        while IFS= builtin read -r -u "$RE_IN" reply && [[ $reply != "$id" ]]; do :; done
    elif [[ $wait == '&' ]]; then
        while IFS= builtin read -r -u "$__re_own" reply && [[ $reply != "$id" ]]; do :; done
    fi
    return 0
}

# Give a shell that is not the program's first one a FIFO of its own for answers: bash reads a pipe byte by byte, so
# two shells that read one pipe would share out the letters of an answer.
__re_private() {
    [[ $__re_owner == "$BASHPID" ]] && return 0
    local fifo=$RE_ANSWERS/.re.$BASHPID
    [[ -p $fifo ]] || mkfifo -m 600 -- "$fifo" 2>/dev/null
    { builtin exec {__re_own}<>"$fifo"; } 2>/dev/null && __re_owner=$BASHPID
}

# Escape the control characters in $part.
__re_controls() {
    part=${part//$'\n'/\\n} part=${part//$'\t'/\\t} part=${part//$'\r'/\\r}
    local code character
    for code in 01 02 03 04 05 06 07 08 0b 0c 0e 0f 10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f; do
        builtin printf -v character '%b' "\\x$code"
        part=${part//"$character"/"\\u00$code"}
    done
}
