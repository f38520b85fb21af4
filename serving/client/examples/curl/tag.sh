#!/bin/sh
# Asks TensorFlow Serving over REST what is heard in an audio file, with curl and base64, and prints the answer as JSON.
#
#   sh tag.sh song.wav                                      16-bit WAV at 16 kHz (signature "wav")
#   SERVER=http://host:8501 LABEL=stable sh tag.sh song.pcm  raw 16-bit little-endian mono at 16 kHz (signature "pcm")
#   sh tag.sh song.mp3                                      any other file, where there is ffmpeg, which decodes it
#
# What a file is goes by its first bytes; raw samples have none of their own and are taken by the names *.pcm and *.raw.
# The most probable tags of the answer, where jq is there:
#   sh tag.sh song.wav | jq -r '.outputs | [.tags[0], .predictions[0]] | transpose | sort_by(-.[1])[:5][] | "\(.[1])  \(.[0])"'
set -eu

if [ $# -ne 1 ]; then
    echo "usage: [SERVER=http://HOST:PORT] [MODEL=autotag] [LABEL=stable] sh tag.sh FILE" >&2
    exit 2
fi
[ -r "$1" ] || { echo "$1 cannot be read" >&2; exit 1; }
url="${SERVER:-http://localhost:8501}/v1/models/${MODEL:-autotag}${LABEL:+/labels/$LABEL}:predict"

case "$(head -c 12 <"$1" | od -An -tx1 | tr -d ' \n')" in
    52494646????????57415645) signature=wav ;;                                           # RIFF....WAVE
    494433* | 4f676753* | 664c6143* | ????????66747970* | 1a45dfa3* | 464f524d* | 52494646*) signature= ;;
    *) case "$1" in *.pcm | *.PCM | *.raw | *.RAW) signature=pcm ;; *) signature= ;; esac ;;
esac
audio=$1
if [ -z "$signature" ]; then    # ID3, Ogg, FLAC, MP4, WebM, AIFF by content, and whatever has another name
    command -v ffmpeg >/dev/null || {
        echo "$1 is neither a WAV file nor raw samples (*.pcm): with ffmpeg on PATH it would be decoded" >&2
        exit 1
    }
    signature=pcm audio=$(mktemp)
    trap 'rm -f "$audio"' EXIT
    ffmpeg -nostdin -v error -y -protocol_whitelist file -i "file:$1" -map 0:a:0 -ac 1 -ar 16000 -f s16le "$audio"
fi

# The body goes through a pipe: as an argument it would be too long. --fail-with-body shows the server's words and exits 22.
{
    printf '{"signature_name": "%s", "inputs": {"%s": [{"b64": "' "$signature" "$signature"
    base64 <"$audio" | tr -d '\n'
    printf '"}]}}'
} | curl --silent --show-error --fail-with-body --max-time "${TIMEOUT:-60}" \
    --header 'Content-Type: application/json' --data-binary @- "$url"
