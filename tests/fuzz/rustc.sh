#!/bin/sh
# Compiles a crate of this workspace with the coverage counters of libFuzzer. Dependencies have none, so they are those of the tests.
case " $* " in
*" --crate-type proc-macro "* | *" --crate-name build_script_build "* | *" --target "* | *" -vV "* | *" --print="*) exec "$@" ;;
*)
    exec "$@" --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1
    ;;
esac
