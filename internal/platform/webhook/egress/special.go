package egress

import "net/netip"

// special4 are the IPv4 networks that are not simply the internet: IANA's IPv4
// Special-Purpose Address Registry, multicast, and metadata services of clouds
// that lie outside of it.
var special4 = networks(
	"0.0.0.0/8",          // this network; 0.0.0.0 reaches this host
	"10.0.0.0/8",         // private
	"100.64.0.0/10",      // shared by carriers' NAT; metadata of Alibaba Cloud
	"127.0.0.0/8",        // loopback
	"168.63.129.16/32",   // the host's services in Azure
	"169.254.0.0/16",     // link-local; metadata of most clouds
	"172.16.0.0/12",      // private
	"192.0.0.0/24",       // protocol assignments; metadata of Oracle Cloud
	"192.0.2.0/24",       // documentation
	"192.31.196.0/24",    // AS112
	"192.52.193.0/24",    // AMT
	"192.88.99.0/24",     // relays of 6to4
	"192.168.0.0/16",     // private
	"192.175.48.0/24",    // AS112
	"198.18.0.0/15",      // benchmarks
	"198.51.100.0/24",    // documentation
	"203.0.113.0/24",     // documentation
	"224.0.0.0/4",        // multicast
	"240.0.0.0/4",        // reserved
	"255.255.255.255/32", // broadcast
)

// unicast6 is all that IANA has given out of IPv6 for global unicast; loopback,
// unique local, link-local and multicast addresses are outside of it.
var unicast6 = netip.MustParsePrefix("2000::/3")

// nat64 is where translators show the IPv4 internet (RFC 6052). The prefix that
// is for local use, 64:ff9b:1::/48, is not public.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// special6 are networks within unicast6 that are not simply the internet.
var special6 = networks(
	"2001::/23",         // protocol assignments, Teredo among them
	"2001:db8::/32",     // documentation
	"2002::/16",         // 6to4, which leads to an IPv4 address
	"2620:4f:8000::/48", // AS112
	"3fff::/20",         // documentation
)

func networks(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, text := range list {
		out[i] = netip.MustParsePrefix(text)
	}
	return out
}
