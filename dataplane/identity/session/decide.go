// Package session begins login sessions and rotates their refresh tokens.
//
// Each refresh uses its token up and gives the next generation. The token before the current one is good for as long
// as a client with several tabs needs to come to rest, and, once, after that: the answer may have been lost. Whatever
// else comes again was stolen, or is from whom it was stolen, and ends the session.
package session

import (
	"time"

	"github.com/caly-dev/caly/internal/refreshtoken"
	"github.com/caly-dev/caly/internal/store"
)

// ReuseInterval is for how long after a rotation everyone with the token before it is given the current one.
const ReuseInterval = 10 * time.Second

// RecoveryInterval is how long after a rotation a client that lost its answer may recover, once, with the token before
// it. An access token is valid for an hour at most, so a client that is in use asks again within that time. A token
// that comes later is treated as stolen.
const RecoveryInterval = time.Hour

// DefaultIdle ends a session that was not used for so long.
const DefaultIdle = 14 * 24 * time.Hour

// Decide judges a token by the row of its session.
func Decide(tenant string, tok refreshtoken.Token, st store.RefreshState, idle time.Duration) store.Rotation {
	switch {
	// Who cannot make the tag has never had a token of this session, and must not be able to end it.
	case !tok.Genuine(tenant, st.Key):
		return store.RotateRefuse
	case st.Ended, st.Blacklisted, st.User.Disabled():
		return store.RotateRefuse
	case !st.Now.Before(st.Session.ExpiresAt), st.Now.Sub(st.Session.LastSeenAt) >= idle:
		return store.RotateRefuse
	case tok.Generation == st.Counter:
		return store.RotateAdvance
	case tok.Generation != st.Counter-1:
		return store.RotateEnd
	case st.Now.Sub(st.RotatedAt) <= ReuseInterval:
		return store.RotateKeep
	case st.Now.Sub(st.RotatedAt) > RecoveryInterval:
		return store.RotateEnd
	// A client loses an answer now and then. Two in a row are a client and a thief, who take turns.
	case st.Recovered >= st.Counter-1:
		return store.RotateEnd
	}
	return store.RotateRecover
}
