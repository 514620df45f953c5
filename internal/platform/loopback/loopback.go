// Package loopback tells the hosts that only this machine can reach.
package loopback

import (
	"net/netip"
	"strings"
)

// Host says whether a host is localhost or an address of the loopback network.
// Other names are not resolved, since what they mean can change. The empty host
// is none: to a listener it means every interface.
func Host(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
