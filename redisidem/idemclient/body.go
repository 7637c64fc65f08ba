package idemclient

import (
	"bytes"
	"io"
	"net/http"
)

// makeRepeatable gives a request a GetBody, and reports whether the request can be repeated. The
// transport of net/http also needs it, to repeat a request after an idle connection broke.
func (t *Transport) makeRepeatable(req *http.Request) (bool, error) {
	if req.Body == nil || req.Body == http.NoBody || req.GetBody != nil {
		return true, nil
	}
	body := req.Body
	held, err := io.ReadAll(io.LimitReader(body, t.cfg.MaxBodyBytes+1))
	if err != nil {
		_ = body.Close()
		return false, err
	}
	if int64(len(held)) > t.cfg.MaxBodyBytes {
		req.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(held), body), body}
		return false, nil
	}
	_ = body.Close()
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(held)), nil }
	req.Body, err = req.GetBody()
	return true, err
}

// cloneForRetry returns a request for another attempt. It is a copy, since the base may still use
// the previous one.
func cloneForRetry(req *http.Request) (*http.Request, error) {
	next := req.Clone(req.Context())
	if req.GetBody == nil {
		return next, nil
	}
	var err error
	next.Body, err = req.GetBody()
	return next, err
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}
