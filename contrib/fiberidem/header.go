package fiberidem

import (
	"net/http"
	"slices"

	"github.com/gofiber/fiber/v3"
)

// managed reports whether fasthttp sets a response field itself, because it depends on how the body
// is sent.
func managed(name string) bool {
	return name == "Content-Length" || name == "Transfer-Encoding" || name == "Date"
}

// responseHeader returns the header of the response as the client will get it.
func responseHeader(c fiber.Ctx) http.Header {
	response := c.Response()
	h := make(http.Header)
	for name, value := range response.Header.All() {
		if name := http.CanonicalHeaderKey(string(name)); !managed(name) {
			h[name] = append(h[name], string(value))
		}
	}
	// fasthttp has a default for a response with a body, but returns it also for one without.
	plain := c.App().Server().NoDefaultContentType
	response.Header.SetNoDefaultContentType(true)
	named := len(response.Header.ContentType()) > 0
	response.Header.SetNoDefaultContentType(plain)
	switch {
	case named:
	case !response.IsBodyStream() && len(response.Body()) == 0:
		delete(h, "Content-Type")
	case plain:
		h["Content-Type"] = nil // absent, and the server must not guess one
	}
	return h
}

// setHeader makes the header of the response equal to want, in the form of responseHeader. It
// changes only fields that differ.
func setHeader(c fiber.Ctx, want http.Header) {
	response := c.Response()
	have := responseHeader(c)
	for name := range have {
		if len(want[name]) == 0 {
			response.Header.Del(name)
		}
	}
	for name, values := range want {
		if managed(name) || slices.Equal(values, have[name]) {
			continue
		}
		response.Header.Del(name)
		for _, value := range values {
			response.Header.Add(name, value)
		}
	}
	if values, set := want["Content-Type"]; set && len(values) == 0 {
		response.Header.SetNoDefaultContentType(true) // the middleware's response has no type
	}
}
