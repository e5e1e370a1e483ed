# bash completion for semstreams(1)                                        -*- shell-script -*-
# SPDX-License-Identifier: MIT

_semstreams()
{
    local cur prev words cword
    _init_completion -n = || return

    # the command: the first words that are neither an option nor the value of one
    local command= word i skip=
    for ((i = 1; i < cword; i++)); do
        word=${words[i]}
        if [[ $skip ]]; then
            skip=
        elif [[ $word == @(-c|--config|--plugins|--log-level|--log-format|--shutdown-timeout|--format|--role|--admin|--interval|--limit|--where|--redact) ]]; then
            skip=1
        elif [[ $word != -* ]]; then
            command+=${command:+ }$word
        fi
    done

    case $prev in
        -c | --config)
            _filedir json
            return
            ;;
        --plugins)
            _filedir -d
            return
            ;;
        --log-level)
            COMPREPLY=($(compgen -W 'error warn info debug' -- "$cur"))
            return
            ;;
        --log-format)
            COMPREPLY=($(compgen -W 'logfmt json' -- "$cur"))
            return
            ;;
        --format)
            COMPREPLY=($(compgen -W 'text dot mermaid' -- "$cur"))
            return
            ;;
        --role)
            COMPREPLY=($(compgen -W 'server client' -- "$cur"))
            return
            ;;
        --admin)
            _filedir
            return
            ;;
        --shutdown-timeout | --interval | --limit | --where | --redact)
            return
            ;;
    esac

    local options='--config --plugins --help --version'
    case $command in
        '' | run) options+=' --log-level --log-format --shutdown-timeout --validate --watch-config' ;;
        check) options+=' --log-level --log-format' ;;
        graph) options+=' --format' ;;
        cert*) options+=' --role --log-level --log-format' ;;
        reload) options+=' --json --admin' ;;
        status) options+=' --json --admin' ;;
        top) options+=' --once --json --interval --admin' ;;
        tap*) options+=' --limit --where --redact --json --admin' ;;
        'config show') options+=' --effective --running --admin' ;;
        'plugins list') options+=' --json' ;;
        'plugins describe'*) options+=' --json --markdown' ;;
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$cur"))
        return
    fi

    case $command in
        '' | help) COMPREPLY=($(compgen -W 'run check graph plugins status top tap reload config schema cert spool replay pki test help' -- "$cur")) ;;
        test*) _filedir json ;;
        pki) COMPREPLY=($(compgen -W 'root intermediate leaf device csr sign inspect fingerprint bundle verify renew rotate token join-request approve join join-serve revoke crl init services help' -- "$cur")) ;;
        pki*) _filedir ;;
        cert) COMPREPLY=($(compgen -W 'status issue renew revoke rollover' -- "$cur")) ;;
        plugins | 'help plugins') COMPREPLY=($(compgen -W 'list describe' -- "$cur")) ;;
        'plugins describe')
            COMPREPLY=($(compgen -W "$("${words[0]}" plugins list 2>/dev/null | cut -d ' ' -f 1)" -- "$cur"))
            ;;
        config | 'help config') COMPREPLY=($(compgen -W 'show' -- "$cur")) ;;
        run | check | graph | 'config show') _filedir json ;;
    esac
} &&
    complete -F _semstreams semstreams
