#!/bin/sh
# An agent to wake, steered by its task's description:
#   wake=S    the wake command takes S seconds        early     the session starts before those, not after
#   start=S   <id>.started appears after S seconds    nostart   it never does (and no result either)
#   run=S     <id>.json appears S seconds later       fail      it says failed      garbage   it is no JSON
#   exit=N    the wake command exits N, no session    failtimes=N  exits 1 the first N times it is woken for the task
# S may be a number or "hold": until the file go.wake.<id>, go.start.<id> or go.run.<id> appears beside runs.log.
# runs.log gets a line "<id> <generation> woken|started|finished" for each step: what ran, how often, in which order.
# Called as: agent.sh FOLDER TASK_ID DESCRIPTION; TASK_JSON is in the environment.
folder=$1 id=$2 description=$3
wake=0 start=0 run=0 exit=0 failtimes=0 early= nostart= outcome=success

for word in $description; do
  case $word in
    wake=*) wake=${word#*=} ;;
    start=*) start=${word#*=} ;;
    run=*) run=${word#*=} ;;
    exit=*) exit=${word#*=} ;;
    failtimes=*) failtimes=${word#*=} ;;
    early | nostart) eval "$word=yes" ;;
    fail | garbage) outcome=$word ;;
  esac
done
generation=$(printf '%s' "$TASK_JSON" | sed -n 's/.*"generation"[: ]*\([0-9]*\).*/\1/p')

note() { printf '%s %s %s\n' "$id" "${generation:-?}" "$1" >> "$folder/runs.log"; }

# For so long, or until told; never longer than the test that made the folder.
pause() {
  case $2 in
    hold) while [ -d "$folder" ] && [ ! -e "$folder/go.$1.$id" ]; do sleep 0.02; done ;;
    0) ;;
    *) sleep "$2" ;;
  esac
}

session() {
  pause start "$start"
  [ -n "$nostart" ] && exit 0
  [ -d "$folder" ] || exit 0
  note started
  : > "$folder/results/$id.started"
  pause run "$run"
  [ -d "$folder" ] || exit 0
  case $outcome in
    success) result="{\"status\":\"success\",\"output\":\"done $id\"}" ;;
    fail) result="{\"status\":\"failed\",\"reason\":\"told to fail\"}" ;;
    garbage) result="not json {" ;;
  esac
  note finished
  printf '%s' "$result" > "$folder/results/$id.part"
  mv "$folder/results/$id.part" "$folder/results/$id.json"
}

if [ "$AGENT_SESSION" = yes ]; then
  session
  exit 0
fi

# In a session of its own, as an agent's is: nobody's child, and out of reach of whoever woke it.
launch() { AGENT_SESSION=yes setsid sh "$0" "$folder" "$id" "$description" < /dev/null > /dev/null 2>&1 & }

note woken
if [ "$failtimes" -gt 0 ] && [ "$(grep -c "^$id .* woken" "$folder/runs.log")" -le "$failtimes" ]; then
  echo "told to fail" >&2
  exit 1
fi
[ "$exit" -ne 0 ] && { pause wake "$wake"; echo "told to exit $exit" >&2; exit "$exit"; }
[ -n "$early" ] && launch
pause wake "$wake"
[ -z "$early" ] && launch
exit 0
