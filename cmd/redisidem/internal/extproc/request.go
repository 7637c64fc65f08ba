package extproc

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
)

// newRequest makes the request that the headers of a stream describe, without its body.
func newRequest(ctx context.Context, h *extproc.HttpHeaders) (*http.Request, error) {
	fields, pseudo := headerOf(h.GetHeaders())
	target := pseudo[":path"]
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, fmt.Errorf("the pseudo header :path cannot be parsed: %w", err)
	}
	if pseudo[":method"] == "" {
		return nil, fmt.Errorf("the pseudo header :method is missing")
	}
	r := &http.Request{
		Method: pseudo[":method"], URL: u, RequestURI: target, Host: pseudo[":authority"], Header: fields,
		Proto: "HTTP/2.0", ProtoMajor: 2, ContentLength: -1,
	}
	if length, err := strconv.ParseInt(fields.Get("Content-Length"), 10, 64); err == nil && length >= 0 {
		r.ContentLength = length
	}
	return r.WithContext(ctx), nil
}

// headerOf returns header fields, and the pseudo header fields by their names.
func headerOf(m *core.HeaderMap) (fields http.Header, pseudo map[string]string) {
	fields, pseudo = make(http.Header), make(map[string]string)
	for _, h := range m.GetHeaders() {
		value := h.GetValue()
		if raw := h.GetRawValue(); len(raw) > 0 {
			value = string(raw)
		}
		if name := h.GetKey(); name != "" && name[0] == ':' {
			pseudo[name] = value
		} else {
			fields.Add(name, value)
		}
	}
	return fields, pseudo
}
