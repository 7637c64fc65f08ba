// Package answer makes the responses of the benchmark's requests.
package answer

// Of returns the response to the request with a key. It has size bytes, or as many as the key if
// that is longer. It differs from every other response of the same size.
func Of(key string, size int) []byte {
	body := make([]byte, max(size, len(key)))
	n := copy(body, key)
	for i := n; i < len(body); i++ {
		body[i] = 'a' + byte(i%23)
	}
	return body
}
