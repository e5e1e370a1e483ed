# bash completion for semstreams(1)
# SPDX-License-Identifier: MIT
# made by docs/generate.py (make docs)

# the next words, the options and the kind of the operand behind the words $1
__semstreams_at()
{
    case $1 in
        '') next='run check doctor graph plugins cert spool replay pki status top reload tap config test schema help' options='--config --help --log-format --log-level --plugins --shutdown-timeout --validate --version --watch-config -V -c -h' operand=none ;;
        'help') next='run check doctor graph plugins cert spool replay pki status top reload tap config test schema help' options='' operand=none ;;
        'run') next='' options='--config --help --log-format --log-level --plugins --shutdown-timeout --validate --version --watch-config -V -c -h' operand=json ;;
        'check') next='' options='--config --connect --help --log-format --log-level --plugins --timeout --version -V -c -h' operand=json ;;
        'doctor') next='' options='--config --help --json --plugins --timeout --version -V -c -h' operand=json ;;
        'graph') next='' options='--config --format --help --plugins --version -V -c -h' operand=json ;;
        'plugins list') next='' options='--config --help --json --plugins --version -V -c -h' operand=none ;;
        'plugins describe') next='' options='--config --help --json --markdown --plugins --version -V -c -h' operand=types ;;
        'plugins new') next='' options='--dir --help --kind --lang --plugins --template --version -V -h' operand=none ;;
        'plugins check') next='' options='--config --deadline --except --help --json --markdown --option --rule --rules --valgrind -h' operand=files ;;
        'cert') next='status issue renew revoke rollover' options='--config --help --log-format --log-level --plugins --role --version -V -c -h' operand=none ;;
        'spool') next='ls check dump' options='--from --meta --to' operand=folders ;;
        'replay') next='' options='--again --bad --ca --cert --dry-run --key --rate --timeout --to' operand=files ;;
        'pki') next='root intermediate leaf device csr sign inspect fingerprint bundle verify renew rotate token join-request approve join join-serve revoke crl init services help' options='--help --json --pkcs11-module' operand=none ;;
        'status') next='' options='--admin --config --help --json --plugins --version -V -c -h' operand=none ;;
        'top') next='' options='--admin --config --help --interval --json --once --plugins --version -V -c -h' operand=none ;;
        'reload') next='' options='--admin --config --help --json --plugins --version -V -c -h' operand=none ;;
        'tap') next='' options='--admin --config --help --json --limit --plugins --redact --version --where -V -c -h' operand=ids ;;
        'config show') next='' options='--admin --config --effective --help --plugins --running --version -V -c -h' operand=json ;;
        'test') next='' options='--filter --help --junit --plugins --tap -h' operand=json ;;
        'schema') next='' options='--config --help --plugins --version -V -c -h' operand=none ;;
        'pki root') next='' options='--ca --fingerprint --force --help --json --key-type --passphrase-env --passphrase-file --passphrase-prompt --path-length --pkcs11-module --roots --validity' operand=files ;;
        'pki intermediate') next='' options='--ca --ca-key --ca-passphrase-env --ca-passphrase-file --ca-passphrase-prompt --force --help --json --key-type --passphrase-env --passphrase-file --passphrase-prompt --path-length --pkcs11-module --profile --validity' operand=files ;;
        'pki leaf') next='' options='--ca --ca-key --ca-passphrase-env --ca-passphrase-file --ca-passphrase-prompt --fingerprint --force --help --json --key-type --passphrase-env --passphrase-file --passphrase-prompt --pkcs11-module --profile --roots --san --token-env --token-file --validity' operand=files ;;
        'pki device') next='' options='--ca --ca-key --ca-passphrase-env --ca-passphrase-file --ca-passphrase-prompt --fingerprint --force --help --json --key-type --passphrase-env --passphrase-file --passphrase-prompt --pkcs11-module --roots --token-env --token-file --validity' operand=files ;;
        'pki csr') next='' options='--force --help --json --key-type --passphrase-env --passphrase-file --passphrase-prompt --pkcs11-module --san' operand=files ;;
        'pki sign') next='' options='--ca --ca-key --ca-passphrase-env --ca-passphrase-file --ca-passphrase-prompt --force --help --json --path-length --pkcs11-module --profile --san --validity' operand=files ;;
        'pki inspect') next='' options='--help --json --pkcs11-module' operand=files ;;
        'pki fingerprint') next='' options='--help --json --pkcs11-module' operand=files ;;
        'pki bundle') next='' options='--force --help --json --pkcs11-module' operand=files ;;
        'pki verify') next='' options='--crl --help --intermediate --json --key --layout --name --passphrase-env --passphrase-file --passphrase-prompt --pkcs11-module --purpose --roots' operand=files ;;
        'pki renew') next='' options='--ca --ca-key --ca-passphrase-env --ca-passphrase-file --ca-passphrase-prompt --exec --fingerprint --force --help --json --key-type --layout --passphrase-env --passphrase-file --passphrase-prompt --pkcs11-module --reuse-key --roots --validity' operand=files ;;
        'pki rotate') next='' options='--ca --ca-key --ca-passphrase-env --ca-passphrase-file --ca-passphrase-prompt --exec --force --help --json --key-type --layout --passphrase-env --passphrase-file --passphrase-prompt --pkcs11-module --reuse-key --validity' operand=folders ;;
        'pki token') next='' options='--ca --ca-passphrase-env --ca-passphrase-file --ca-passphrase-prompt --fingerprint --force --help --json --pkcs11-module --profile --provisioner --roots --san --validity' operand=files ;;
        'pki join-request') next='' options='--ca --fingerprint --force --help --json --key-type --passphrase-env --passphrase-file --passphrase-prompt --pkcs11-module --provider --roots --token-env --token-file --validity --wait' operand=files ;;
        'pki approve') next='' options='--ca --ca-key --ca-passphrase-env --ca-passphrase-file --ca-passphrase-prompt --fingerprint --force --help --json --pkcs11-module --provisioner --roots --validity' operand=files ;;
        'pki join') next='' options='--ca --crl --fingerprint --force --help --intermediate --json --key --name --passphrase-env --passphrase-file --passphrase-prompt --pkcs11-module --purpose --roots' operand=files ;;
        'pki join-serve') next='' options='--help --json --passphrase-env --passphrase-file --passphrase-prompt --pkcs11-module --roots' operand=files ;;
        'pki revoke') next='' options='--ca --ca-passphrase-env --ca-passphrase-file --ca-passphrase-prompt --fingerprint --force --help --json --key --pkcs11-module --provisioner --reason --reinstate --roots' operand=files ;;
        'pki crl') next='' options='--ca --ca-key --ca-passphrase-env --ca-passphrase-file --ca-passphrase-prompt --help --json --pkcs11-module --validity' operand=files ;;
        'pki init') next='' options='--address --force --help --json --key-type --layout --location --passphrase-env --passphrase-file --passphrase-prompt --pkcs11-module --san' operand=folders ;;
        'pki services') next='' options='--ca --ca-key --ca-passphrase-env --ca-passphrase-file --ca-passphrase-prompt --force --help --json --key-type --layout --pkcs11-module --san' operand=folders ;;
        'pki help') next='' options='' operand=none ;;
        'plugins') next='list describe new check' options='' operand=none ;;
        'config') next='show' options='' operand=none ;;
        'help plugins') next='list describe new check' options='' operand=none ;;
        'help config') next='show' options='' operand=none ;;
        'help pki') next='' options='' operand=none ;;
        *) return 1 ;;
    esac
}

# how the value of an option is completed; $1: the words before, and the option
__semstreams_value()
{
    case $1 in
        *' '--address) kind='files' ;;
        *' '--admin) kind='files' ;;
        *' '--bad) kind='files' ;;
        *' '--ca) kind='files' ;;
        *' '--ca-key) kind='files' ;;
        *' '--ca-passphrase-env) kind='none' ;;
        *' '--ca-passphrase-file) kind='files' ;;
        *' '--cert) kind='files' ;;
        *' '--config) kind='json' ;;
        *' '--crl) kind='files' ;;
        *' '--deadline) kind='none' ;;
        *' '--dir) kind='folders' ;;
        *' '--except) kind='none' ;;
        *' '--exec) kind='none' ;;
        *' '--filter) kind='none' ;;
        *' '--fingerprint) kind='none' ;;
        *' '--format) kind='words text dot mermaid' ;;
        *' '--from) kind='none' ;;
        *' '--intermediate) kind='files' ;;
        *' '--interval) kind='none' ;;
        *' '--junit) kind='files' ;;
        *' '--key) kind='files' ;;
        *' '--key-type) kind='words rsa2048 rsa3072 rsa4096 p256 p384 ed25519' ;;
        *' '--kind) kind='words source processor sink tls' ;;
        *' '--lang) kind='words c c++ rust' ;;
        *' '--layout) kind='words internal federation provider step-ca' ;;
        *' '--limit) kind='none' ;;
        *' '--location) kind='none' ;;
        *' '--log-format) kind='words logfmt json' ;;
        *' '--log-level) kind='words error warn info debug' ;;
        *' '--name) kind='none' ;;
        *' '--option) kind='none' ;;
        *' '--passphrase-env) kind='none' ;;
        *' '--passphrase-file) kind='files' ;;
        *' '--path-length) kind='none' ;;
        *' '--pkcs11-module) kind='files' ;;
        *' '--plugins) kind='folders' ;;
        *' '--profile) kind='words intermediate-ca sub-ca service-leaf device-leaf' ;;
        *' '--provider) kind='none' ;;
        *' '--provisioner) kind='none' ;;
        *' '--purpose) kind='words server client' ;;
        *' '--rate) kind='none' ;;
        *' '--reason) kind='none' ;;
        *' '--redact) kind='none' ;;
        *' '--role) kind='words server client' ;;
        *' '--roots) kind='files' ;;
        *' '--rule) kind='none' ;;
        *' '--san) kind='none' ;;
        *' '--shutdown-timeout) kind='none' ;;
        *' '--template) kind='folders' ;;
        *' '--timeout) kind='none' ;;
        *' '--to) kind='none' ;;
        *' '--token-env) kind='none' ;;
        *' '--token-file) kind='files' ;;
        *' '--validity) kind='none' ;;
        *' '--wait) kind='none' ;;
        *' '--where) kind='none' ;;
        *' '-c) kind='json' ;;
        *) return 1 ;;
    esac
}

# what fits, of kind $1, to $cur
__semstreams_complete()
{
    local IFS=$'\n' line
    case $1 in
        words*) line=${1#words } && line=$(compgen -W "${line// /$'\n'}" -- "$cur") ;;
        json) line=$(compgen -f -X '!*.json' -- "$cur"; compgen -d -- "$cur") ;;
        files) line=$(compgen -f -- "$cur") ;;
        folders) line=$(compgen -d -- "$cur") ;;
        types) line=$(compgen -W "$(command "$program" plugins list "${given[@]}" 2>/dev/null | cut -d ' ' -f 1)" -- "$cur") ;;
        ids) line=$(compgen -W "$(command "$program" config show "${given[@]}" 2>/dev/null |
            sed -n 's/^      "id": "\([^"]*\)".*/\1/p')" -- "$cur") ;;
        *) return ;;
    esac
    case $1 in json | files | folders) compopt -o filenames 2>/dev/null ;; esac
    mapfile -t COMPREPLY <<<"$line"
    [[ $line ]] || COMPREPLY=()
}

_semstreams()
{
    local cur=$2 prev=$3 program=${COMP_WORDS[0]} words='' before='' option='' word i next options operand kind
    local given=()
    COMPREPLY=()
    # "--option=" comes in pieces
    [[ $cur != '=' ]] || cur=''
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == '=' && $option ]]; then
            continue
        elif [[ $option ]]; then
            [[ $option != @(-c|--config|--admin|--plugins) ]] || given+=("$option" "$word")
            option=
        elif [[ $word == -* ]]; then
            ! __semstreams_value " $word" || option=$word
        else
            words+=${words:+ }$word
        fi
    done
    before=$words
    until __semstreams_at "$before"; do
        [[ $before == *' '* ]] && before=${before% *} || before=''
    done
    if [[ $option ]]; then
        __semstreams_value "$before $option" && __semstreams_complete "$kind"
        return
    fi
    if [[ $cur == -* ]]; then
        __semstreams_complete "words $options"
        return
    fi
    # a word that is none of the next ones is an operand
    [[ $next && $words == "$before" ]] && __semstreams_complete "words $next" || __semstreams_complete "$operand"
} && complete -F _semstreams semstreams
