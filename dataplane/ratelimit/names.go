package ratelimit

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Limit allows a number of tries in any window of a length.
type Limit = tenantconfig.Limit

// Name of a limit. The set is closed: names are labels of metrics, and what a tenant may override.
type Name string

// Names, with what the key of each is.
const (
	Login         Name = "login"         // email and client address
	Register      Name = "register"      // client address
	Verify        Name = "verify"        // email
	Resend        Name = "resend"        // email
	Forgot        Name = "forgot"        // email
	Reset         Name = "reset"         // client address
	Refresh       Name = "refresh"       // client address
	LoginFailures Name = "loginFailures" // client address; taken by logins that failed
	API           Name = "api"           // user id, or client address of who is not signed in

	RegisterMail   Name = "registerMail"   // email; taken by registrations and by codes that are sent again
	TenantRegister Name = "tenantRegister" // the tenant; taken by the same
	TenantVerify   Name = "tenantVerify"   // the tenant; taken by wrong codes
	TenantBeyond   Name = "tenantBeyond"   // limit of the tenant that is used up, and the client's network
)

// TenantAlert limits how often a limit of a tenant that is used up is reported. Its key is the limit. Nobody can
// override it.
const TenantAlert Name = "tenantAlert"

// platformNames are the limits that a tenant cannot override: they bound what one tenant costs the others.
var platformNames = []Name{RegisterMail, TenantRegister, TenantVerify, TenantBeyond}

// ofNetworks is the end of the names of limits that count networks of addresses.
const ofNetworks = "Network"

// networkFactor is the number of addresses whose tries one network may make. A network holds 65,536 of what counts as
// an address, and a single customer of a provider may have all of them.
const networkFactor = 4

// addressNames are the limits whose key is or has a client address, and that count its network too. Renewals do not: a
// refresh token cannot be guessed, and a provider may have its customers in one network.
var addressNames = []Name{Login, Register, Reset, LoginFailures, API}

// Network is the limit that counts the same tries by the network of the client's address.
func (n Name) Network() Name { return n + ofNetworks }

// limit is the limit of a name, under a way to look up those that can be overridden.
func (n Name) limit(of func(Name) Limit) Limit {
	if n == TenantAlert {
		return Limit{Requests: 1, Window: time.Hour}
	}
	base, network := strings.CutSuffix(string(n), ofNetworks)
	limit := of(Name(base))
	if network {
		limit.Requests = min(limit.Requests*networkFactor, tenantconfig.MaxLimitRequests)
	}
	return limit
}

// defaultLimits are in force where neither the tenant nor the platform says otherwise.
var defaultLimits = map[Name]Limit{
	Login:         {Requests: 6, Window: 15 * time.Minute},
	Register:      {Requests: 5, Window: 15 * time.Minute},
	Verify:        {Requests: 5, Window: 5 * time.Minute},
	Resend:        {Requests: 3, Window: 2 * time.Minute},
	Forgot:        {Requests: 3, Window: 15 * time.Minute},
	Reset:         {Requests: 20, Window: 15 * time.Minute},
	Refresh:       {Requests: 600, Window: 15 * time.Minute},
	LoginFailures: {Requests: 100, Window: 15 * time.Minute},
	API:           {Requests: 100, Window: 15 * time.Minute},

	RegisterMail:   {Requests: 10, Window: 24 * time.Hour},
	TenantRegister: {Requests: 300, Window: time.Hour},
	TenantVerify:   {Requests: 100, Window: time.Hour},
	TenantBeyond:   {Requests: 1, Window: time.Hour},
}

// Names returns all names, sorted.
func Names() []Name { return slices.Sorted(maps.Keys(defaultLimits)) }

// ParseLimit reads what a flag says: "login=6/15m".
func ParseLimit(s string) (Name, Limit, error) {
	name, rest, ok := strings.Cut(s, "=")
	requests, window, both := strings.Cut(rest, "/")
	if !ok || !both {
		return "", Limit{}, fmt.Errorf("limit %q is not of the form name=requests/window, such as login=6/15m", s)
	}
	if _, known := defaultLimits[Name(name)]; !known {
		return "", Limit{}, fmt.Errorf("no limit is called %q: name one of %v", name, Names())
	}
	n, err := strconv.Atoi(requests)
	if err != nil {
		return "", Limit{}, fmt.Errorf("limit %s: %q is not a number of requests", name, requests)
	}
	wait, err := time.ParseDuration(window)
	if err != nil {
		return "", Limit{}, fmt.Errorf("limit %s: %q is not a length of time, such as 15m", name, window)
	}
	l := Limit{Requests: n, Window: wait}
	return Name(name), l, check(Name(name), l)
}

func check(name Name, l Limit) error {
	if l.Requests < tenantconfig.MinLimitRequests || l.Requests > tenantconfig.MaxLimitRequests ||
		l.Window < tenantconfig.MinLimitWindow || l.Window > tenantconfig.MaxLimitWindow {
		return fmt.Errorf(
			"limit %s: %d requests in %s are not %d to %d in %s to %s",
			name,
			l.Requests,
			l.Window,
			tenantconfig.MinLimitRequests,
			tenantconfig.MaxLimitRequests,
			tenantconfig.MinLimitWindow,
			tenantconfig.MaxLimitWindow,
		)
	}
	return nil
}
