// Upstream is a trivial service in a process of its own, for what is measured in front of one. It
// answers each request with as many bytes as its argument says. It serves until it is interrupted,
// and prints its address in the gateway's format.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/redisidem/redisidem/cmd/bench/internal/answer"
	"github.com/redisidem/redisidem/redisidem/idemheader"
)

func main() {
	if err := serve(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "upstream:", err)
		os.Exit(1)
	}
}

func serve(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("there must be one argument, the size of a response: %q", args)
	}
	size, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	serving := map[string]string{"msg": "serving", "url": "http://" + listener.Addr().String()}
	if err := json.NewEncoder(os.Stderr).Encode(serving); err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		_, _ = w.Write(answer.Of(r.Header.Get(idemheader.Key), size)) // a write to a client that has left returns an error
	})}
	return server.Serve(listener)
}
