package token

import (
	"time"

	"github.com/caly-dev/caly/internal/store"
)

// maxRevoked bounds the sessions and users that are remembered one by one, of a tenant. Beyond it all of the tenant's tokens that were
// issued so far are taken for revoked: their holders refresh them, and whose session has ended cannot.
const maxRevoked = 50_000

// subject is a user, or with an empty id all users, of a tenant.
type subject struct{ tenant, userID string }

// mark revokes what was issued until a time.
type mark struct {
	at   time.Time
	seen time.Time // when this pod learnt of it
}

func (m mark) covers(c *Claims) bool { return !m.at.IsZero() && !c.IssuedAt.After(m.at) }

// tenantSet is what was revoked of one tenant.
type tenantSet struct {
	all      mark
	users    map[string]mark
	sessions map[string]time.Time // when this pod learnt of it; an ended session never comes back
	// latest is when the last of them was; folded the time up to which single ones are part of all.
	latest, folded time.Time
}

func newTenantSet() *tenantSet {
	return &tenantSet{users: map[string]mark{}, sessions: map[string]time.Time{}}
}

func (s *tenantSet) revoked(c *Claims) bool {
	_, ended := s.sessions[c.SessionID]
	return ended || s.all.covers(c) || s.users[c.UserID].covers(c)
}

// addAll tells whether any was new. Those of tenants that are not in sets are left out.
func addAll(sets map[string]*tenantSet, list []store.Revocation, now time.Time) (changed bool) {
	for _, v := range list {
		if set, ok := sets[v.Tenant]; ok && set.add(v, now) {
			changed = true
		}
	}
	return changed
}

func (s *tenantSet) add(v store.Revocation, now time.Time) (changed bool) {
	single := v.SessionID != "" || v.UserID != ""
	if single && !v.At.After(s.folded) {
		return false
	}
	switch m := (mark{at: v.At, seen: now}); {
	case v.SessionID != "":
		if _, known := s.sessions[v.SessionID]; known {
			return false
		}
		s.sessions[v.SessionID] = now
	case v.UserID != "":
		if !v.At.After(s.users[v.UserID].at) {
			return false
		}
		s.users[v.UserID] = m
	default:
		if !v.At.After(s.all.at) {
			return false
		}
		s.all = m
	}
	if v.At.After(s.latest) {
		s.latest = v.At
	}
	if len(s.sessions)+len(s.users) > maxRevoked {
		s.fold(now)
	}
	return true
}

// fold makes room: it takes all that was issued until the last revocation for revoked.
func (s *tenantSet) fold(now time.Time) {
	if s.latest.After(s.all.at) {
		s.all = mark{at: s.latest, seen: now}
	}
	s.folded = s.latest
	clear(s.users)
	clear(s.sessions)
}

// prune forgets what no living token can be meant by.
func (s *tenantSet) prune(before time.Time) {
	if s.all.seen.Before(before) {
		s.all = mark{}
	}
	for id, m := range s.users {
		if m.seen.Before(before) {
			delete(s.users, id)
		}
	}
	for id, seen := range s.sessions {
		if seen.Before(before) {
			delete(s.sessions, id)
		}
	}
}
