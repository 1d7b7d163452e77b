// Package server serves the admin API in the operator's pods, on the loopback addresses only: a caller reaches it by a
// port-forward, which the API server authorises. Each request is authenticated by a TokenReview or a client certificate
// of the cluster, and authorised by a SubjectAccessReview.
package server

import (
	"time"

	"golang.org/x/time/rate"
)

// Bounds of the server.
const (
	// maxConnections is the number of connections at once.
	maxConnections = 64
	// maxHeader bounds a request's header: tokens with many groups are long.
	maxHeader = 64 << 10
	// maxBody bounds a request's body.
	maxBody = 64 << 10
	// readTimeout bounds the TLS handshake and the time to read one request.
	readTimeout = 10 * time.Second
	// handleTimeout bounds the work on one request.
	handleTimeout = 30 * time.Second
	// writeTimeout bounds reading, work and answer together.
	writeTimeout = time.Minute
	idleTimeout  = 30 * time.Second
	// endTimeout is how long requests under way may take once the pod ends.
	endTimeout = 10 * time.Second
	// maxUsers bounds what is remembered of users: rates and decisions.
	maxUsers = 1024
)

// Rates of requests.
const (
	// perUser and burstOfUser bound the requests of one user.
	perUser     = rate.Limit(20)
	burstOfUser = 60
	// reviews and burstOfReviews bound the TokenReviews of all callers, so that wrong tokens do not load the API server.
	reviews        = rate.Limit(20)
	burstOfReviews = 60
)
