package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/rs/cors"

	"github.com/redisidem/redisidem/redisidem/idemheader"
)

// CORS says which pages of other origins may call the service through the gateway. It has to be the
// gateway that says so: what a service allows depends on the page that asks, and is therefore not
// in stored answers.
type CORS struct {
	// Origins are those that may, such as https://shop.example; "*" is all of them. None: the
	// gateway leaves CORS alone.
	Origins []string
	// Credentials lets pages send cookies along. Not with "*".
	Credentials bool
}

// validate reports what is wrong.
func (c *CORS) validate() error {
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

// handler answers the questions of browsers before they get to the service, and marks what they may
// read.
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
		next.ServeHTTP(&ownCORS{ResponseWriter: w, own: w.Header().Clone()}, r)
	}))
}

// ownCORS keeps what the gateway says about CORS when the service says something, too: browsers
// refuse a response with two values.
type ownCORS struct {
	http.ResponseWriter
	own   http.Header
	wrote bool
}

func (w *ownCORS) WriteHeader(status int) {
	if !w.wrote && status >= 200 {
		w.wrote = true
		h := w.Header()
		for _, name := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"} {
			h.Del(name)
			if values := w.own[name]; values != nil {
				h[name] = values
			}
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *ownCORS) Write(p []byte) (int, error) {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *ownCORS) Unwrap() http.ResponseWriter { return w.ResponseWriter }
