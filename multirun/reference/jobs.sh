# Sourced by the run.sh beside it: needs $part, $out and $python.

wanted() { [[ $part == all || $part == "$1" ]]; }

job() {  # folder, script, then overrides; a job that has left its summary.json is not run again
    local folder=$out/$1 script=$2
    shift 2
    [ -f "$folder/summary.json" ] || $python "$script" "hydra.run.dir=$folder" "$@"
}
