#!/bin/sh
# Asks TensorFlow Serving over REST what is heard in an audio file, with curl and base64, and prints the answer as JSON.
#
#   sh tag.sh song.wav                                      16-bit WAV at 16 kHz (signature "wav")
#   SERVER=http://host:8501 LABEL=stable sh tag.sh song.pcm  raw 16-bit little-endian mono at 16 kHz (signature "pcm")
#
# Any other file becomes such a WAV with: ffmpeg -i song.mp3 -ac 1 -ar 16000 -c:a pcm_s16le song.wav
# The most probable tags of the answer, where jq is there:
#   sh tag.sh song.wav | jq -r '.outputs | [.tags[0], .predictions[0]] | transpose | sort_by(-.[1])[:5][] | "\(.[1])  \(.[0])"'
set -eu

if [ $# -ne 1 ]; then
    echo "usage: [SERVER=http://HOST:PORT] [MODEL=autotag] [LABEL=stable] sh tag.sh FILE.wav|FILE.pcm" >&2
    exit 2
fi
case "$1" in
    *.wav | *.WAV) signature=wav ;;
    *) signature=pcm ;;
esac
[ -r "$1" ] || { echo "$1 cannot be read" >&2; exit 1; }
url="${SERVER:-http://localhost:8501}/v1/models/${MODEL:-autotag}${LABEL:+/labels/$LABEL}:predict"

# The body goes through a pipe: as an argument it would be too long. --fail-with-body shows the server's words and exits 22.
{
    printf '{"signature_name": "%s", "inputs": {"%s": [{"b64": "' "$signature" "$signature"
    base64 <"$1" | tr -d '\n'
    printf '"}]}}'
} | curl --silent --show-error --fail-with-body --max-time "${TIMEOUT:-60}" \
    --header 'Content-Type: application/json' --data-binary @- "$url"
