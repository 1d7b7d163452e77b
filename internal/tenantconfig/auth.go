package tenantconfig

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bounds and defaults of Auth.
const (
	minAccessTokenLifetime     = time.Minute
	MaxAccessTokenLifetime     = time.Hour
	DefaultAccessTokenLifetime = 15 * time.Minute
	minSessionLifetime         = time.Hour
	maxSessionLifetime         = 2160 * time.Hour
	DefaultSessionLifetime     = 720 * time.Hour
	// maxEmailDomains, maxHosts and maxOrigins of one tenant.
	maxEmailDomains = 64
	maxHosts        = 16
	maxOrigins      = 32
)

// Bounds of a Limit: the number of tries that are stored for every key, and for how long.
const (
	MinLimitRequests = 1
	MaxLimitRequests = 1000
	MinLimitWindow   = time.Second
	MaxLimitWindow   = 24 * time.Hour
)

// limitNames are what a tenant may override, by the names that the data plane knows them by.
var limitNames = []string{"login", "register", "verify", "resend", "forgot", "reset", "refresh", "loginFailures", "api"}

// LimitNames are the limits that a tenant may override.
func LimitNames() []string { return slices.Clone(limitNames) }

// Auth is how a tenant's people sign in.
type Auth struct {
	// OpenRegistration lets anybody register. Otherwise people are invited.
	OpenRegistration bool `json:"openRegistration,omitempty"`
	// AccessTokenLifetime is how long an access token is good, and SessionLifetime how long a session lasts that is not ended before.
	AccessTokenLifetime time.Duration `json:"accessTokenLifetime"`
	SessionLifetime     time.Duration `json:"sessionLifetime"`
	// AllowedEmailDomains of those who register, in lower case; empty: any.
	AllowedEmailDomains []string `json:"allowedEmailDomains,omitempty"`
	// Hosts that name the tenant, in lower case, without a port.
	Hosts []string `json:"hosts,omitempty"`
	// AllowedOrigins of browsers' requests, as browsers write them.
	AllowedOrigins []string `json:"allowedOrigins,omitempty"`
	// Limits that differ from the platform's, by their names.
	Limits map[string]Limit `json:"limits,omitempty"`
}

// Limit allows a number of requests in any window of a length.
type Limit struct {
	Requests int           `json:"requests"`
	Window   time.Duration `json:"window"`
}

const hostPattern = `[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*`

var (
	hostName    = regexp.MustCompile(`^` + hostPattern + `$`)
	origin      = regexp.MustCompile(`^(https://` + hostPattern + `|http://localhost)(:[1-9][0-9]{0,4})?$`)
	impliedPort = regexp.MustCompile(`^(https://.*:443|http://.*:80)$`) // which browsers leave out
)

// checkHost returns an error if a name is not a host as a request is compared with it: lower case, no port, no full
// stop at its end.
func checkHost(host string) error {
	if len(host) > 253 || !hostName.MatchString(host) {
		return fmt.Errorf("%q is not the name of a host: lower-case letters, digits, '-' and '.', without a port", host)
	}
	return nil
}

// checkOrigin returns an error if a text is not an origin as browsers send it. http is for localhost alone.
func checkOrigin(s string) error {
	if len(s) > 272 || !origin.MatchString(s) || impliedPort.MatchString(s) {
		return fmt.Errorf(
			"%q is not an origin as browsers send it: https://host or https://host:port, in lower case, without a path and "+
				"without the scheme's own port; http is for localhost alone",
			s,
		)
	}
	if _, port, ok := strings.Cut(s[len("http://"):], ":"); ok {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return fmt.Errorf("%q names a port above 65535", s)
		}
	}
	return nil
}

// Check returns an error, which names the field below spec, if any part of it is out of its bounds. A nil one is good.
func (a *Auth) Check() error {
	if a == nil {
		return nil
	}
	if a.AccessTokenLifetime < minAccessTokenLifetime || a.AccessTokenLifetime > MaxAccessTokenLifetime {
		return fmt.Errorf(
			"auth.accessTokenLifetime %s is not between %s and %s",
			a.AccessTokenLifetime,
			minAccessTokenLifetime,
			MaxAccessTokenLifetime,
		)
	}
	if a.SessionLifetime < minSessionLifetime || a.SessionLifetime > maxSessionLifetime {
		return fmt.Errorf(
			"auth.sessionLifetime %s is not between %s and %s",
			a.SessionLifetime,
			minSessionLifetime,
			maxSessionLifetime,
		)
	}
	if len(a.AllowedEmailDomains) > maxEmailDomains || len(a.Hosts) > maxHosts || len(a.AllowedOrigins) > maxOrigins {
		return fmt.Errorf(
			"auth has more than %d allowedEmailDomains, %d hosts or %d allowedOrigins",
			maxEmailDomains,
			maxHosts,
			maxOrigins,
		)
	}
	return errors.Join(each("allowedEmailDomains", a.AllowedEmailDomains, checkHost), each("hosts", a.Hosts, checkHost),
		each("allowedOrigins", a.AllowedOrigins, checkOrigin), checkLimits(a.Limits))
}

func each(field string, list []string, check func(string) error) error {
	for _, s := range list {
		if err := check(s); err != nil {
			return fmt.Errorf("auth.%s: %w", field, err)
		}
	}
	return nil
}

func checkLimits(limits map[string]Limit) error {
	for name, l := range limits {
		if !slices.Contains(limitNames, name) {
			return fmt.Errorf("auth.limits: %q is not one of %s", name, strings.Join(limitNames, ", "))
		}
		if l.Requests < MinLimitRequests || l.Requests > MaxLimitRequests || l.Window < MinLimitWindow ||
			l.Window > MaxLimitWindow {
			return fmt.Errorf(
				"auth.limits.%s: %d requests in %s are not %d to %d in %s to %s",
				name,
				l.Requests,
				l.Window,
				MinLimitRequests,
				MaxLimitRequests,
				MinLimitWindow,
				MaxLimitWindow,
			)
		}
	}
	return nil
}
