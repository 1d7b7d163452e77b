package tenant

import (
	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/controllers/internal/reconcile"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// auth compiles how people sign in; nil without accounts.
func auth(spec *v1alpha1.AuthSpec) (*tenantconfig.Auth, error) {
	if spec == nil {
		return nil, nil
	}
	a := &tenantconfig.Auth{
		OpenRegistration:    spec.Registration == v1alpha1.RegistrationOpen,
		AccessTokenLifetime: duration(spec.AccessTokenLifetime, tenantconfig.DefaultAccessTokenLifetime),
		SessionLifetime:     duration(spec.SessionLifetime, tenantconfig.DefaultSessionLifetime),
		AllowedEmailDomains: spec.AllowedEmailDomains,
		Hosts:               spec.Hosts,
		AllowedOrigins:      spec.AllowedOrigins,
		Limits:              limits(spec.Limits),
	}
	if err := a.Check(); err != nil {
		return nil, reconcile.Stalled(v1alpha1.ReasonInvalidSpec, "spec.%v", err)
	}
	return a, nil
}

// limits are those that the spec names; nil if it names none.
func limits(spec *v1alpha1.AuthLimitsSpec) map[string]tenantconfig.Limit {
	if spec == nil {
		return nil
	}
	out := map[string]tenantconfig.Limit{}
	for name, l := range map[string]*v1alpha1.RateLimitSpec{
		"login":         spec.Login,
		"loginFailures": spec.LoginFailures,
		"register":      spec.Register,
		"verify":        spec.Verify,
		"resend":        spec.Resend,
		"forgot":        spec.Forgot,
		"reset":         spec.Reset,
		"refresh":       spec.Refresh,
		"api":           spec.API,
	} {
		if l != nil {
			out[name] = tenantconfig.Limit{Requests: int(l.Requests), Window: duration(l.Window, 0)}
		}
	}
	return out
}
