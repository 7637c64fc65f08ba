package redisidem

import "log/slog"

// attrKey names a key in the log, by its digest.
func attrKey(id identity) slog.Attr { return slog.String("key", id.Digest) }

func attrErr(err error) slog.Attr { return slog.String("error", err.Error()) }
