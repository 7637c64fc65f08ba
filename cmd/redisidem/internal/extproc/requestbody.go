package extproc

import "bytes"

// MaxBodyBytes bounds the bodies of requests and responses, each of which is one message. The rest
// of a message is for header fields.
const (
	MaxBodyBytes    = maxMessageBytes - 1<<20
	maxMessageBytes = 64 << 20
)

// requestBody is the body of a request, which Envoy is asked for by the first Read.
type requestBody struct {
	exchange *exchange
	rest     *bytes.Reader
	err      error
}

// Read implements [io.Reader].
func (b *requestBody) Read(p []byte) (int, error) {
	if b.rest == nil && b.err == nil {
		var all []byte
		all, b.err = b.exchange.readBody()
		b.rest = bytes.NewReader(all)
	}
	if b.err != nil {
		return 0, b.err
	}
	return b.rest.Read(p)
}

// Close implements [io.Closer].
func (*requestBody) Close() error { return nil }
