/*
 * A switch's access port on tc's hooks, for kernels without VLAN devices. Frames from the host get the port's tag (two
 * tags if INNER is defined). Frames to the host lose it. Frames with other tags are dropped.
 * Compiled with clang -target bpf, -DOUTER=id, -DINNER=id, -DPRIORITY=0..7.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#define SECTION(name) __attribute__((section(name), used))
#define CUSTOMER __builtin_bswap16(0x8100)
#define SERVICE __builtin_bswap16(0x88a8)
#define CONTROL(id) (PRIORITY << 13 | (id))

static long (*const vlan_push)(struct __sk_buff *frame, __be16 protocol, __u16 control) =
	(void *)BPF_FUNC_skb_vlan_push;
static long (*const vlan_pop)(struct __sk_buff *frame) = (void *)BPF_FUNC_skb_vlan_pop;

static inline __attribute__((always_inline)) int take(struct __sk_buff *frame, unsigned int id)
{
	return frame->vlan_present && (frame->vlan_tci & 0xfff) == id && vlan_pop(frame) == 0;
}

SECTION("classifier/from_host") int from_host(struct __sk_buff *frame)
{
#ifdef INNER
	if (vlan_push(frame, CUSTOMER, CONTROL(INNER)) || vlan_push(frame, SERVICE, CONTROL(OUTER)))
		return TC_ACT_SHOT;
#else
	if (vlan_push(frame, CUSTOMER, CONTROL(OUTER)))
		return TC_ACT_SHOT;
#endif
	return TC_ACT_OK;
}

SECTION("classifier/to_host") int to_host(struct __sk_buff *frame)
{
	if (!take(frame, OUTER))
		return TC_ACT_SHOT;
#ifdef INNER
	if (!take(frame, INNER))
		return TC_ACT_SHOT;
#endif
	return TC_ACT_OK;
}

char licence[] SECTION("license") = "Apache-2.0";
