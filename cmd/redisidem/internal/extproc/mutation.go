package extproc

import (
	"net/http"
	"slices"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// common is the answer that lets Envoy continue, with changed header fields.
func common(fields *extproc.HeaderMutation) *extproc.CommonResponse {
	return &extproc.CommonResponse{HeaderMutation: fields}
}

// leaseNames are the fields that describe the lease of a request to the upstream.
var leaseNames = []string{idemheader.Attempt, idemheader.Fence}

// withoutLease returns the change that removes the fields of a lease. The upstream trusts them, so
// those of a client must not reach it.
func withoutLease() *extproc.HeaderMutation {
	return &extproc.HeaderMutation{RemoveHeaders: leaseNames}
}

// leaseFields returns the change of a request's header that gives the upstream the lease's fields,
// and none of the client's.
func leaseFields(header http.Header) *extproc.HeaderMutation {
	m := &extproc.HeaderMutation{}
	for _, name := range leaseNames {
		if values := header.Values(name); len(values) > 0 {
			m.SetHeaders = append(m.SetHeaders, fieldsOf(name, values)...)
		} else {
			m.RemoveHeaders = append(m.RemoveHeaders, name)
		}
	}
	return m
}

// changed returns how the handler has changed the header of the upstream's response. With trailers
// it is too late for that. A response with another status is one of the handler's own, as after an
// upgrade of the connection, which is Envoy's.
func (x *exchange) changed(w *recorder) *extproc.HeaderMutation {
	if x.pending == responseTrailers || w.header == nil || w.status != x.upstream.StatusCode {
		return nil
	}
	return changes(x.upstream.Header, w.header)
}

// hops are the fields that Envoy sets itself.
var hops = []string{
	"Connection", "Content-Length", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// changes returns what makes one header the other.
func changes(before, after http.Header) *extproc.HeaderMutation {
	m := &extproc.HeaderMutation{}
	for name, values := range after {
		if !slices.Contains(hops, name) && !slices.Equal(before[name], values) {
			m.SetHeaders = append(m.SetHeaders, fieldsOf(name, values)...)
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok && !slices.Contains(hops, name) {
			m.RemoveHeaders = append(m.RemoveHeaders, name)
		}
	}
	return m
}

// fieldsOf returns the fields that replace all with a name.
func fieldsOf(name string, values []string) []*core.HeaderValueOption {
	all := make([]*core.HeaderValueOption, len(values))
	for i, v := range values {
		action := core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD
		if i > 0 {
			action = core.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD
		}
		all[i] = &core.HeaderValueOption{Header: &core.HeaderValue{Key: name, RawValue: []byte(v)}, AppendAction: action}
	}
	return all
}
