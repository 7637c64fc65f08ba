package console

import "net/http"

// checkOrigin returns an error for requests that pages of other sites send: forms, scripts,
// pictures, frames, and pages that a browser reads in advance. Such a page could not read the
// response, but each request reads Redis. A browser that follows a link of another site is
// accepted.
func (c *Console) checkOrigin(r *http.Request) error {
	if c.origins.Check(r) != nil {
		return errOtherOrigin
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none": // "" is no browser, or an old one
		return nil
	}
	destination := r.Header.Get("Sec-Fetch-Dest")
	if r.Header.Get("Sec-Purpose") == "" && r.Header.Get("Sec-Fetch-Mode") == "navigate" && (destination == "document" || destination == "") {
		return nil
	}
	return errOtherOrigin
}
