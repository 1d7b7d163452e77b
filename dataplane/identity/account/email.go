package account

import (
	"slices"
	"strings"
)

// domainAllowed tells whether an email's domain is one of the list. An empty list allows any.
func domainAllowed(email string, domains []string) bool {
	_, domain, _ := strings.Cut(email, "@")
	return len(domains) == 0 || slices.Contains(domains, domain)
}
