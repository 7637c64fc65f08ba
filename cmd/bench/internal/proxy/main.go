// Proxy is the standard library's reverse proxy in a process of its own. It measures the cost of a
// gateway that does nothing. Its argument is the upstream's URL. It serves until it is interrupted,
// and prints its address in the gateway's format.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"
)

func main() {
	if err := serve(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "proxy:", err)
		os.Exit(1)
	}
}

func serve(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("there must be one argument, the upstream's URL: %q", args)
	}
	upstream, err := url.Parse(args[0])
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	// Keep as many idle connections as the gateway. With the standard library's default of two, the
	// proxy would dial for most requests.
	transport := &http.Transport{MaxIdleConns: 1024, MaxIdleConnsPerHost: 1024, DisableCompression: true}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(upstream) }, Transport: transport}
	serving := map[string]string{"msg": "serving", "url": "http://" + listener.Addr().String()}
	if err := json.NewEncoder(os.Stderr).Encode(serving); err != nil {
		return err
	}
	server := &http.Server{Handler: proxy, ReadHeaderTimeout: 10 * time.Second}
	return server.Serve(listener)
}
