/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A frame as its hook shows it: here is all that the hooks differ in. XDP has it in one piece, as it was on the wire.
 * TC has an skb:
 *   - it may be many packets, which the kernel has put together (GRO), or will cut up behind us (TSO, UDP_SEGMENT);
 *   - its outer VLAN tag may stand beside it;
 *   - it may have no Ethernet header;
 *   - its headers may not all be between data and data_end; then they are pulled there.
 */
#ifndef CNF_FRAME_H
#define CNF_FRAME_H

#include "headers.h"
#include "verifier.h"

#define TC_ACT_UNSPEC -1 /* the next program decides; TCX_NEXT is the same */
#define TC_ACT_SHOT 2

struct frame {
	void *ctx; /* struct xdp_md, or struct __sk_buff */
	enum cnf_hook hook; /* a constant in each program, so that one branch remains of each */
};

/* What a frame is on the wire. Of bytes, each packet has its headers; no checksum trailer. */
struct wire {
	__u64 packets;
	__u64 bytes;
};

static __always_inline int frame_is_skb(const struct frame *frame)
{
	return frame->hook != CNF_HOOK_XDP;
}

static __always_inline void *frame_data(const struct frame *frame)
{
	if (frame_is_skb(frame))
		return (void *)(long)((struct __sk_buff *)frame->ctx)->data;
	return (void *)(long)((struct xdp_md *)frame->ctx)->data;
}

static __always_inline void *frame_data_end(const struct frame *frame)
{
	if (frame_is_skb(frame))
		return (void *)(long)((struct __sk_buff *)frame->ctx)->data_end;
	return (void *)(long)((struct xdp_md *)frame->ctx)->data_end;
}

static __always_inline __u64 frame_length(const struct frame *frame)
{
	if (frame_is_skb(frame))
		return ((struct __sk_buff *)frame->ctx)->len;
#if CNF_PERFMON
	return frame_data_end(frame) - frame_data(frame);
#else
	return bpf_xdp_get_buff_len(frame->ctx); /* to subtract pointers takes CAP_PERFMON */
#endif
}

/* Have the first `size` bytes, or all that there are, between data and data_end. */
static __always_inline void frame_pull(const struct frame *frame, __u32 size)
{
	void *data = frame_data(frame), *end = frame_data_end(frame);
	__u64 length = frame_length(frame);

	if (!frame_is_skb(frame) || data + size <= end)
		return;
#if CNF_PERFMON
	if (end - data == length)
		return;
#endif
	bpf_skb_pull_data(frame->ctx, length < size ? length : size);
}

/* Copy `size` bytes, wherever they are; return a negative number if they are not all there. */
static __always_inline long frame_load(const struct frame *frame, __u32 offset, void *copy, __u32 size)
{
	if (frame_is_skb(frame))
		return bpf_skb_load_bytes(frame->ctx, offset, copy, size);
	return bpf_xdp_load_bytes(frame->ctx, offset, copy, size);
}

static __always_inline __u32 frame_ifindex(const struct frame *frame)
{
	if (frame_is_skb(frame))
		return ((struct __sk_buff *)frame->ctx)->ifindex;
	return ((struct xdp_md *)frame->ctx)->ingress_ifindex;
}

/* Return the EtherType of a frame that has no Ethernet header, in network byte order. */
static __always_inline __u16 frame_protocol(const struct frame *frame)
{
	return frame_is_skb(frame) ? ((struct __sk_buff *)frame->ctx)->protocol : 0;
}

/* Return the tag that stands beside the frame, in front of those in it, as a key has it. */
static __always_inline __u16 frame_vlan(const struct frame *frame)
{
	struct __sk_buff *skb = frame->ctx;

	if (!frame_is_skb(frame) || !skb->vlan_present)
		return 0;
	return CNF_VLAN_PRESENT | (skb->vlan_tci & VLAN_ID_MASK);
}

/* Return the bytes of the tag that stands beside the frame, without a branch. */
static __always_inline __u32 frame_tag_bytes(const struct frame *frame)
{
	struct __sk_buff *skb = frame->ctx;

	return frame_is_skb(frame) ? skb->vlan_present * sizeof(struct vlan_tag) : 0;
}

/*
 * `headers` are the bytes before the payload, which each segment has. At egress wire_len has counted them. A tag that
 * stands beside the frame is in neither length.
 */
static __always_inline struct wire frame_wire(const struct frame *frame, __u64 length, __u32 headers)
{
	struct wire wire = {.packets = 1, .bytes = length};
	struct __sk_buff *skb = frame->ctx;
	__u32 segments;
	__u64 zero;

	if (!frame_is_skb(frame))
		return wire;
	zero = unknown_zero(length);
	if (frame->hook == CNF_HOOK_EGRESS)
		wire.bytes = skb->wire_len;
	segments = skb->gso_segs;
	if (!segments && skb->gso_size) /* the kernel has not counted them: of a virtual machine, by a tap */
		segments = (length - headers + skb->gso_size - 1) / skb->gso_size;
	if (segments > 1) {
		wire.packets = segments;
		if (frame->hook == CNF_HOOK_INGRESS)
			wire.bytes += (segments - 1) * headers;
	}
	wire.bytes += skb->vlan_present * wire.packets * sizeof(struct vlan_tag);
	FORGET(wire.packets, zero);
	FORGET(wire.bytes, zero);
	return wire;
}

static __always_inline __u8 frame_flow_flags(const struct frame *frame)
{
	return frame->hook == CNF_HOOK_EGRESS ? CNF_FLOW_EGRESS : 0;
}

/* Return whether limits hold for the frame: they do not for what this node sends. */
static __always_inline int frame_is_limited(const struct frame *frame)
{
	return CNF_LIMITER && frame->hook != CNF_HOOK_EGRESS;
}

static __always_inline int frame_pass(const struct frame *frame)
{
	return frame_is_skb(frame) ? TC_ACT_UNSPEC : XDP_PASS;
}

static __always_inline int frame_drop(const struct frame *frame)
{
	return frame_is_skb(frame) ? TC_ACT_SHOT : XDP_DROP;
}

#endif
