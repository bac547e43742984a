# shellcheck shell=bash
# re-import, in a file of its own: few programs call it, and every shell reads the others.

# re-import SRC FILE INFORMATS OUTFORMAT MAXPROGRESS [compress|extract]
#
# Brings SRC (a file here or a URL) in as NAME.OUTFORMAT, as NAME.OUTFORMAT.gz, or as both.  FILE is its real name;
# INFORMATS lists its endings, a|b|c, where an empty one means none.  Ends the program with 1 when FILE has another.
re-import() {
    { local -; set +eux; } 2>/dev/null
    local source=$1 file=$2 formats=$3 format=$4 share=${5:-1.0} want=$6 name='' packing='' ending keep
    if [[ $source =~ ^(https?|ftp):// ]]; then
        file=${file:-$source}
        curl --fail --location --silent --show-error --connect-timeout 10 --retry 5 -o .download -- "$source" ||
            __re_give_up "File transfer failed: $source"
        source=.download
    fi
    file=${file:-$source} file=${file%%\?*} file=${file##*/}
    [[ -f $source ]] || __re_give_up "File transfer failed: temporary file not found"
    while IFS= read -r -d '|' ending; do
        __re_ending "$file" "${ending:+.$ending}" && break
        name=''
    done <<<"$formats|"
    [[ $name ]] || __re_give_up "File $file has none of the endings $formats"
    keep=$name.$format
    case $packing in
        '')               [[ $source -ef $keep ]] || mv -f -- "$source" "$keep" ;;
        .gz)              gzip -dc <"$source" >"$keep"; (($? == 1)) && __re_give_up "File $file cannot be unpacked" ;;
        .tgz | .tar.gz)   tar -xzOf "$source" >"$keep" || __re_give_up "File $file cannot be unpacked" ;;
        .tar.bz2)         tar -xjOf "$source" >"$keep" || __re_give_up "File $file cannot be unpacked" ;;
        *)                7z x -y -so -- "$source" >"$keep" || __re_give_up "File $file cannot be unpacked" ;;
    esac
    if [[ $want != extract ]]; then
        if [[ $packing == .gz ]]; then mv -f -- "$source" "$keep.gz"; else gzip -nc <"$keep" >"$keep.gz"; fi
    fi
    [[ $want == compress ]] && rm -f -- "$keep"
    [[ -f $source && ! $source -ef $keep && $source != /* ]] && rm -f -- "$source"
    re-progress "$share"
}

# Set name and packing if $1 is a name that ends with $2, packed or not; case does not matter.
__re_ending() {
    local lower=${1,,} wanted=${2,,} pack
    for pack in .gz .bz2 .zip .rar .7z .tgz .tar.gz .tar.bz2 ''; do
        if [[ .$lower == *"$wanted$pack" && ( $pack || $wanted != *.@(gz|bz2|zip|rar|7z|tgz) ) ]]; then
            name=${1:0:${#1}-${#wanted}-${#pack}} packing=$pack
            [[ $wanted || $pack || $1 != *.* ]] && return 0
        elif [[ ! $pack && .$lower == *"$wanted" ]]; then  # a packed file that INFORMATS names by its packing alone
            name=${1:0:${#1}-${#wanted}} packing=$wanted
            return 0
        fi
    done
    return 1
}

__re_give_up() {
    __re_send '!' error "$PWD" "$1"
    exit 1
}
