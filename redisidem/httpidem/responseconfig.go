package httpidem

import "github.com/redisidem/redisidem/redisidem"

// ResponseConfig configures which responses of the handler are stored. Zero fields mean their
// defaults.
type ResponseConfig struct {
	// Status decides by its status whether a response is stored. [ParseStatusPolicy] makes a policy
	// from a list of statuses. Default: [KeepFinal].
	Status StatusPolicy

	// MaxBytes limits the body of a stored response, which is held in memory until the handler
	// returns. A larger response is sent as the handler writes it, and is not stored: a retry is
	// answered with [ResultGone]. At most the service's MaxValueBytes. Default: 1 MiB, or
	// MaxValueBytes if that is less.
	MaxBytes int

	// KeepHeaders are header fields that are stored in addition to [DefaultKeepHeaders]. Cookies,
	// fields of a single connection or moment (Date, Content-Length, Cache-Control, CORS,
	// authentication) and the fields of this package are refused.
	KeepHeaders []string

	// Drop stores only that a request was executed, and with what status, for responses that must
	// not be stored. Retries are answered with [ResultGone].
	Drop bool

	// KeepFlushed ignores Flush until a response is larger than MaxBytes, so that it can be stored.
	// It is for handlers that always flush, as httputil.ReverseProxy does for responses of unknown
	// length. It delays event streams. By default a response that is flushed is sent at once, and
	// is not stored.
	KeepFlushed bool
}

func (c *ResponseConfig) validate(service *redisidem.Config, keyHeader string) error {
	if c.MaxBytes < 1 || c.MaxBytes > service.MaxValueBytes {
		return invalid("Config.Response.MaxBytes", "must be between 1 and the service's MaxValueBytes (%d): %d",
			service.MaxValueBytes, c.MaxBytes)
	}
	for _, name := range c.KeepHeaders {
		if !mayBeStored(name, keyHeader) {
			return invalid("Config.Response.KeepHeaders", "must be fields that may be stored: %q", name)
		}
	}
	return nil
}
