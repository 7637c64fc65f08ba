package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/rs/cors"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// CORS configures the pages of other origins that may call the service through the gateway. The
// gateway must answer for them: the CORS fields of the service depend on the page, and are
// therefore not stored.
type CORS struct {
	// Origins are the allowed origins, such as https://shop.example, or "*" for all. Without
	// origins the gateway forwards CORS requests and fields unchanged.
	Origins []string
	// Credentials lets pages send cookies. It cannot be combined with "*".
	Credentials bool
}

// Validate reports the first setting that is invalid.
func (c *CORS) Validate() error {
	if c.Credentials && len(c.Origins) == 0 {
		return errors.New("CORS with credentials needs an origin")
	}
	for _, origin := range c.Origins {
		if origin == "*" {
			if c.Credentials {
				return fmt.Errorf("the CORS origin %q cannot go with credentials", origin)
			}
			continue
		}
		if u, err := url.Parse(origin); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || origin != u.Scheme+"://"+u.Host {
			return fmt.Errorf("the CORS origin %q is not like https://shop.example", origin)
		}
	}
	return nil
}

// handler answers preflight requests, and exposes the header fields that pages may read.
func (c *CORS) handler(next http.Handler) http.Handler {
	if len(c.Origins) == 0 {
		return next
	}
	methods := []string{
		http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
	}
	shared := cors.New(cors.Options{
		AllowedOrigins: c.Origins, AllowCredentials: c.Credentials, AllowedMethods: methods, AllowedHeaders: []string{"*"},
		ExposedHeaders: []string{idemheader.Key, idemheader.Replayed, "Retry-After", "Location", "Link"}, MaxAge: 600,
	})
	return shared.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&corsWriter{ResponseWriter: w, fields: w.Header().Clone()}, r)
	}))
}

// corsWriter overwrites the CORS fields of the service with those of the gateway. Browsers refuse a
// response with both.
type corsWriter struct {
	http.ResponseWriter
	fields http.Header
	wrote  bool
}

func (w *corsWriter) WriteHeader(status int) {
	if !w.wrote && status >= 200 {
		w.wrote = true
		h := w.Header()
		for _, name := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"} {
			h.Del(name)
			if values := w.fields[name]; values != nil {
				h[name] = values
			}
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *corsWriter) Write(p []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets [http.ResponseController] reach the underlying writer.
func (w *corsWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
