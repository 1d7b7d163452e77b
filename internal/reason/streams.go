package reason

// Reasons why a stream session ended without a bridge that knows it. All others are those of package bridge.
const (
	// StreamFailed means that the stream ended before there was a bridge.
	StreamFailed = "failed"
	// StreamOrphaned means that the session's pod is lost, or does not know the session.
	StreamOrphaned = "orphaned"
)
