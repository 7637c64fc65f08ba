package redisidem

// checkSize returns an [*InvalidError] for a value of more than limit bytes. limit is
// Config.MaxValueBytes, which bounds every stored value in its plain form. The decoder of stored
// values has the same bound; see valueCodec.
func checkSize(field string, size, limit int) error {
	if size > limit {
		return invalid(field, "is %d bytes long, more than MaxValueBytes (%d)", size, limit)
	}
	return nil
}
