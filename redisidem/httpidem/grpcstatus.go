package httpidem

import (
	"net/http"
	"strconv"
	"strings"
)

// EquivalentStatus returns the status by which a response is judged. That of a gRPC response is the
// HTTP status that its grpc-status stands for, which is a trailer, or a header field if there is no
// message. A gRPC response without a grpc-status broke off, and stands for 502. Any other response
// is judged by its own status.
//
// CANCELLED stands for 504, since the work may have been done. ABORTED and UNIMPLEMENTED stand for
// 425, so that they are never stored: the same call may succeed later. The others stand for what
// the definition of google.rpc.Code says.
func EquivalentStatus(status int, header, trailer http.Header) int {
	if status != http.StatusOK || !isGRPC(header.Get("Content-Type")) {
		return status
	}
	text := trailer.Get("Grpc-Status")
	if text == "" {
		text = header.Get("Grpc-Status")
	}
	if text == "" {
		return http.StatusBadGateway
	}
	code, err := strconv.Atoi(text)
	if err != nil || code < 0 || code >= len(grpcStatuses) {
		return http.StatusInternalServerError // as a client reads it: UNKNOWN
	}
	return grpcStatuses[code]
}

// isGRPC reports whether a media type is that of gRPC. The trailers of gRPC-Web are in its body.
func isGRPC(mediaType string) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(mediaType), "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// grpcStatuses are the HTTP statuses that the codes of gRPC stand for.
var grpcStatuses = [...]int{
	0:  http.StatusOK,
	1:  http.StatusGatewayTimeout,      // CANCELLED
	2:  http.StatusInternalServerError, // UNKNOWN
	3:  http.StatusBadRequest,          // INVALID_ARGUMENT
	4:  http.StatusGatewayTimeout,      // DEADLINE_EXCEEDED
	5:  http.StatusNotFound,            // NOT_FOUND
	6:  http.StatusConflict,            // ALREADY_EXISTS
	7:  http.StatusForbidden,           // PERMISSION_DENIED
	8:  http.StatusTooManyRequests,     // RESOURCE_EXHAUSTED
	9:  http.StatusBadRequest,          // FAILED_PRECONDITION
	10: http.StatusTooEarly,            // ABORTED
	11: http.StatusBadRequest,          // OUT_OF_RANGE
	12: http.StatusTooEarly,            // UNIMPLEMENTED
	13: http.StatusInternalServerError, // INTERNAL
	14: http.StatusServiceUnavailable,  // UNAVAILABLE
	15: http.StatusInternalServerError, // DATA_LOSS
	16: http.StatusUnauthorized,        // UNAUTHENTICATED
}
