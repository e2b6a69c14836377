// Package lines is the way in which our small programs are asked: one JSON
// object a line on standard input, and one line for each on standard output,
// in order, until the input ends.
package lines

import (
	"bufio"
	"encoding/json"
	"io"
	"log"
	"os"

	"k8s.io/klog/v2"
)

// Answer answers every question. The libraries that it asks log nothing.
func Answer[Q, A any](program string, answer func(*Q) A) {
	log.SetFlags(0)
	log.SetPrefix(program + ": ")
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	in, out := json.NewDecoder(bufio.NewReader(os.Stdin)), json.NewEncoder(os.Stdout)
	for {
		var asked Q
		if err := in.Decode(&asked); err == io.EOF {
			return
		} else if err != nil {
			log.Fatal(err)
		}
		if err := out.Encode(answer(&asked)); err != nil {
			log.Fatal(err)
		}
	}
}
