package gateway

import (
	"net/http"
	"slices"
)

// keepFields runs a proxy so that informational responses of the upstream leave the fields that the
// response had before: ReverseProxy clears the header after each of them.
func keepFields(proxy http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fields := w.Header(); len(fields) > 0 {
			w = &fieldsWriter{ResponseWriter: w, fields: fields.Clone()}
		}
		proxy.ServeHTTP(w, r)
	})
}

// fieldsWriter puts fields before those of a response, if informational responses have removed
// them.
type fieldsWriter struct {
	http.ResponseWriter
	fields  http.Header
	cleared bool
}

// WriteHeader implements [http.ResponseWriter].
func (w *fieldsWriter) WriteHeader(status int) {
	informational := status < 200 && status != http.StatusSwitchingProtocols
	if w.cleared && !informational {
		h := w.Header()
		for name, values := range w.fields {
			h[name] = slices.Concat(values, h[name])
		}
	}
	w.cleared = informational
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *fieldsWriter) Write(p []byte) (int, error) {
	if w.cleared {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets [http.ResponseController] reach the underlying writer.
func (w *fieldsWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
