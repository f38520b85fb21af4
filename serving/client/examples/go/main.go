// Asks TensorFlow Serving over gRPC what is heard in an audio file, and prints the most probable tags.
//
//	go run . song.wav                                  16-bit WAV at 16 kHz (signature "wav")
//	go run . -server host:8500 -label stable song.pcm  raw 16-bit little-endian mono at 16 kHz (signature "pcm")
//	go run . song.mp3                                  any other file, where there is ffmpeg, which decodes it
//
// What a file is goes by its first bytes; raw samples have none of their own and are taken by the names *.pcm and *.raw.
//
// The packages tensorflow and serving are generated from ../../protos, a small part of TF Serving's public .proto files
// with the same names and numbers (`go generate` makes them anew and needs protoc, protoc-gen-go and protoc-gen-go-grpc).
package main

//go:generate protoc -I ../../protos --go_out=. --go_opt=module=autotag/tagclient --go-grpc_out=. --go-grpc_opt=module=autotag/tagclient tensorflow.proto tensorflow_error.proto tensorflow_serving.proto

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"autotag/tagclient/serving"
	"autotag/tagclient/tensorflow"
)

func main() {
	server := flag.String("server", "localhost:8500", "host:port of the server's gRPC")
	model := flag.String("model", "autotag", "the model's name on the server")
	label := flag.String("label", "", "ask the version with this label, such as stable; else the newest")
	top := flag.Int("top", 5, "how many tags to print")
	timeout := flag.Duration("timeout", time.Minute, "how long to wait for the answer")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: go run . [-server HOST:PORT] [-label LABEL] [-top N] FILE")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), *timeout)
	defer cancel()
	if err := run(ctx, *server, *model, *label, flag.Arg(0), *top); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, server, model, label, path string, top int) error {
	signature, audio, err := load(ctx, path)
	if err != nil {
		return err
	}
	connection, err := grpc.NewClient(server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	answer, err := serving.NewPredictionServiceClient(connection).Predict(ctx, request(model, label, signature, audio))
	if err != nil {
		return fmt.Errorf("%s did not tag %s: %w", server, path, err)
	}
	return printTop(answer, top)
}

// magic has what files of other kinds begin with, and where.
var magic = []struct {
	at    int
	bytes string
}{{0, "ID3"}, {0, "OggS"}, {0, "fLaC"}, {4, "ftyp"}, {0, "\x1a\x45\xdf\xa3"}, {0, "FORM"}, {0, "RIFF"}}

// signatureOf says which signature takes a file as it is; "" where it has to be decoded.
func signatureOf(path string, audio []byte) string {
	has := func(at int, what string) bool { return bytes.HasPrefix(audio[min(at, len(audio)):], []byte(what)) }
	if has(0, "RIFF") && has(8, "WAVE") {
		return "wav"
	}
	for _, one := range magic {
		if has(one.at, one.bytes) {
			return ""
		}
	}
	switch strings.ToLower(filepath.Ext(path)) {
	case ".pcm", ".raw":
		return "pcm"
	}
	return ""
}

// load reads a file and decodes it with ffmpeg where it is neither a WAV nor raw samples.
func load(ctx context.Context, path string) (signature string, audio []byte, err error) {
	if audio, err = os.ReadFile(path); err != nil {
		return "", nil, err
	}
	if signature = signatureOf(path, audio); signature != "" {
		return signature, audio, nil
	}
	ffmpeg, err := exec.LookPath("ffmpeg")
	if err != nil {
		return "", nil, fmt.Errorf("%s is neither a WAV file nor raw samples (*.pcm): with ffmpeg on PATH it would be decoded", path)
	}
	decode := exec.CommandContext(ctx, ffmpeg, "-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe", "-i", "file:"+path,
		"-map", "0:a:0", "-ac", "1", "-ar", "16000", "-f", "s16le", "pipe:1")
	words := &bytes.Buffer{}
	decode.Stderr = words
	if audio, err = decode.Output(); err != nil {
		return "", nil, fmt.Errorf("ffmpeg cannot decode %s: %s", path, strings.TrimSpace(words.String()))
	}
	return "pcm", audio, nil
}

// request asks for the tags of one clip: a list of one string, the file's bytes.
func request(model, label, signature string, audio []byte) *serving.PredictRequest {
	spec := &serving.ModelSpec{Name: model, SignatureName: signature}
	if label != "" {
		spec.VersionChoice = &serving.ModelSpec_VersionLabel{VersionLabel: label}
	}
	clips := &tensorflow.TensorProto{
		Dtype:       tensorflow.DataType_DT_STRING,
		TensorShape: &tensorflow.TensorShapeProto{Dim: []*tensorflow.TensorShapeProto_Dim{{Size: 1}}},
		StringVal:   [][]byte{audio},
	}
	return &serving.PredictRequest{
		ModelSpec:    spec,
		Inputs:       map[string]*tensorflow.TensorProto{signature: clips},
		OutputFilter: []string{"tags", "predictions"},
	}
}

func printTop(answer *serving.PredictResponse, top int) error {
	tags := answer.Outputs["tags"].GetStringVal()
	probabilities := floats(answer.Outputs["predictions"])
	if len(tags) == 0 || len(tags) != len(probabilities) {
		return fmt.Errorf("%d tags and %d probabilities: not a model of autotag's", len(tags), len(probabilities))
	}
	order := make([]int, len(tags))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return probabilities[order[a]] > probabilities[order[b]] })
	for _, i := range order[:min(top, len(order))] {
		fmt.Printf("%.3f  %s\n", probabilities[i], tags[i])
	}
	return nil
}

// floats reads a tensor of float32, which comes as a list or, from a server told so, as bytes.
func floats(tensor *tensorflow.TensorProto) []float32 {
	if content := tensor.GetTensorContent(); len(content) > 0 {
		values := make([]float32, len(content)/4)
		for i := range values {
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(content[4*i:]))
		}
		return values
	}
	return tensor.GetFloatVal()
}
