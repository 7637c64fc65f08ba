package main

import "net/http"

// clientProtocols returns the protocols of the listener for clients: HTTP/1 and HTTP/2. Clients
// such as those of gRPC speak HTTP/2 without TLS, too.
func clientProtocols() *http.Protocols {
	p := &http.Protocols{}
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return p
}
