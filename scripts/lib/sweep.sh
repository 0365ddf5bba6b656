#!/usr/bin/env bash
# Ends and removes what an interrupted test or demo may have left: namespaces with this project's own prefixes, and
# the processes inside them. Nothing else is touched. An argument narrows it to names that begin so.
set -u
for ns in $(ip netns list 2>/dev/null | awk '{print $1}' | grep -E "^${1:-(sluice-|orc[0-9]+)}"); do
    for pid in $(ip netns pids "$ns" 2>/dev/null); do kill "$pid" 2>/dev/null; done
    sleep 0.2
    for pid in $(ip netns pids "$ns" 2>/dev/null); do kill -9 "$pid" 2>/dev/null; done
    ip netns del "$ns" 2>/dev/null
done
exit 0
