/* PostgreSQL 15's numbers for redo: offsets, sizes, codes. Every one of them is proven against the
 * real headers by static_asserts in tests/unit/redo/test_v15.c. Private to the room.
 */
#ifndef LOCH_REDO_V15_H
#define LOCH_REDO_V15_H

/* storage/bufpage.h, itemid.h */
#define V15_PD_FLAGS          10u
#define V15_PD_LOWER          12u
#define V15_PD_UPPER          14u
#define V15_PD_SPECIAL        16u
#define V15_PD_PRUNE_XID      20u
#define V15_PD_HAS_FREE_LINES 0x0001u
#define V15_PD_ALL_VISIBLE    0x0004u
#define V15_LP_UNUSED         0u
#define V15_LP_NORMAL         1u
#define V15_LP_REDIRECT       2u
#define V15_LP_DEAD           3u
#define V15_FIRST_NORMAL_XID  3u

/* access/htup_details.h: HeapTupleHeaderData */
#define V15_HEAP_TUPLE_BYTES        23u /* SizeofHeapTupleHeader */
#define V15_HEAP_TUPLES_MAX         291u
#define V15_T_XMIN                  0u
#define V15_T_XMAX                  4u
#define V15_T_CID                   8u
#define V15_T_CTID                  12u
#define V15_T_INFOMASK2             18u
#define V15_T_INFOMASK              20u
#define V15_T_HOFF                  22u
#define V15_HEAP_XMAX_KEYSHR_LOCK   0x0010u
#define V15_HEAP_COMBOCID           0x0020u
#define V15_HEAP_XMAX_EXCL_LOCK     0x0040u
#define V15_HEAP_XMAX_LOCK_ONLY     0x0080u
#define V15_HEAP_XMAX_COMMITTED     0x0400u
#define V15_HEAP_XMAX_INVALID       0x0800u
#define V15_HEAP_XMAX_IS_MULTI      0x1000u
#define V15_HEAP_MOVED              0xC000u
#define V15_HEAP_KEYS_UPDATED       0x2000u /* in infomask2 */
#define V15_HEAP_HOT_UPDATED        0x4000u /* in infomask2 */
#define V15_HEAP_XMAX_BITS          0x1CD0u
#define V15_HEAP_LOCK_MASK          0x0050u
#define V15_MOVED_PARTITIONS_OFFSET 0xFFFDu
#define V15_FROZEN_XID              2u

/* access/heapam_xlog.h */
#define V15_HEAP_OPMASK        0x70u
#define V15_HEAP_INIT_PAGE     0x80u
#define V15_HEAP_INSERT        0x00u
#define V15_HEAP_DELETE        0x10u
#define V15_HEAP_UPDATE        0x20u
#define V15_HEAP_HOT_UPDATE    0x40u
#define V15_HEAP_CONFIRM       0x50u
#define V15_HEAP_LOCK          0x60u
#define V15_HEAP_INPLACE       0x70u
#define V15_HEAP2_PRUNE        0x10u
#define V15_HEAP2_VACUUM       0x20u
#define V15_HEAP2_FREEZE_PAGE  0x30u
#define V15_HEAP2_VISIBLE      0x40u
#define V15_HEAP2_MULTI_INSERT 0x50u
#define V15_HEAP2_LOCK_UPDATED 0x60u

#define V15_XLHL_XMAX_IS_MULTI    0x01u
#define V15_XLHL_XMAX_LOCK_ONLY   0x02u
#define V15_XLHL_XMAX_EXCL_LOCK   0x04u
#define V15_XLHL_XMAX_KEYSHR_LOCK 0x08u
#define V15_XLHL_KEYS_UPDATED     0x10u

#define V15_XLH_INSERT_ALL_VISIBLE_CLEARED     0x01u
#define V15_XLH_INSERT_ALL_FROZEN_SET          0x20u
#define V15_XLH_INSERT_KNOWN                   0x3Fu
#define V15_XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED 0x01u
#define V15_XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED 0x02u
#define V15_XLH_UPDATE_PREFIX_FROM_OLD         0x20u
#define V15_XLH_UPDATE_SUFFIX_FROM_OLD         0x40u
#define V15_XLH_UPDATE_KNOWN                   0x7Fu
#define V15_XLH_DELETE_ALL_VISIBLE_CLEARED     0x01u
#define V15_XLH_DELETE_IS_SUPER                0x08u
#define V15_XLH_DELETE_IS_PARTITION_MOVE       0x10u
#define V15_XLH_DELETE_KNOWN                   0x1Fu

#define V15_XL_HEAP_HEADER_BYTES 5u /* infomask2, infomask, hoff */
#define V15_XL_HEADER_INFOMASK2  0u
#define V15_XL_HEADER_INFOMASK   2u
#define V15_XL_HEADER_HOFF       4u

#define V15_XL_INSERT_BYTES  3u
#define V15_XL_INSERT_OFFNUM 0u
#define V15_XL_INSERT_FLAGS  2u

#define V15_XL_DELETE_BYTES    8u
#define V15_XL_DELETE_XMAX     0u
#define V15_XL_DELETE_OFFNUM   4u
#define V15_XL_DELETE_INFOBITS 6u
#define V15_XL_DELETE_FLAGS    7u

#define V15_XL_UPDATE_BYTES        14u
#define V15_XL_UPDATE_OLD_XMAX     0u
#define V15_XL_UPDATE_OLD_OFFNUM   4u
#define V15_XL_UPDATE_OLD_INFOBITS 6u
#define V15_XL_UPDATE_FLAGS        7u
#define V15_XL_UPDATE_NEW_XMAX     8u
#define V15_XL_UPDATE_NEW_OFFNUM   12u

#define V15_XL_LOCK_BYTES    8u /* LOCK and LOCK_UPDATED are laid out alike */
#define V15_XL_LOCK_XID      0u
#define V15_XL_LOCK_OFFNUM   4u
#define V15_XL_LOCK_INFOBITS 6u

#define V15_XL_OFFNUM_BYTES 2u /* CONFIRM, INPLACE */

#define V15_XL_MULTI_INSERT_BYTES   4u
#define V15_XL_MULTI_INSERT_FLAGS   0u
#define V15_XL_MULTI_INSERT_NTUPLES 2u
#define V15_XL_MULTI_TUPLE_BYTES    7u /* datalen, then as xl_heap_header */

#define V15_XL_PRUNE_BYTES       8u
#define V15_XL_PRUNE_NREDIRECTED 4u
#define V15_XL_PRUNE_NDEAD       6u

#define V15_XL_VACUUM_BYTES 2u

#define V15_XL_FREEZE_BYTES           6u
#define V15_XL_FREEZE_NTUPLES         4u
#define V15_XL_FREEZE_TUPLE_BYTES     12u
#define V15_XL_FREEZE_TUPLE_XMAX      0u
#define V15_XL_FREEZE_TUPLE_OFFSET    4u
#define V15_XL_FREEZE_TUPLE_INFOMASK2 6u
#define V15_XL_FREEZE_TUPLE_INFOMASK  8u
#define V15_XL_FREEZE_TUPLE_FLAGS     10u
#define V15_XLH_FREEZE_XVAC           0x02u
#define V15_XLH_INVALID_XVAC          0x04u

#define V15_XL_VISIBLE_BYTES 5u
#define V15_XL_VISIBLE_FLAGS 4u
#define V15_VM_VALID_BITS    0x03u

/* access/nbtree.h, nbtxlog.h, itup.h */
#define V15_BT_OPAQUE_BYTES          16u
#define V15_BTPO_PREV                0u
#define V15_BTPO_NEXT                4u
#define V15_BTPO_LEVEL               8u
#define V15_BTPO_FLAGS               12u
#define V15_BTPO_CYCLEID             14u
#define V15_BTP_LEAF                 0x0001u
#define V15_BTP_ROOT                 0x0002u
#define V15_BTP_DELETED              0x0004u
#define V15_BTP_META                 0x0008u
#define V15_BTP_HALF_DEAD            0x0010u
#define V15_BTP_HAS_GARBAGE          0x0040u
#define V15_BTP_INCOMPLETE_SPLIT     0x0080u
#define V15_BTP_HAS_FULLXID          0x0100u
#define V15_BT_MAX_ITEM_BYTES        2704u /* BTMaxItemSize */
#define V15_INDEX_TUPLES_MAX         408u
#define V15_BTREE_INSERT_LEAF        0x00u
#define V15_BTREE_INSERT_UPPER       0x10u
#define V15_BTREE_INSERT_META        0x20u
#define V15_BTREE_SPLIT_L            0x30u
#define V15_BTREE_SPLIT_R            0x40u
#define V15_BTREE_INSERT_POST        0x50u
#define V15_BTREE_DEDUP              0x60u
#define V15_BTREE_DELETE             0x70u
#define V15_BTREE_UNLINK_PAGE        0x80u
#define V15_BTREE_UNLINK_PAGE_META   0x90u
#define V15_BTREE_NEWROOT            0xA0u
#define V15_BTREE_MARK_PAGE_HALFDEAD 0xB0u
#define V15_BTREE_VACUUM             0xC0u
#define V15_BTREE_META_CLEANUP       0xE0u

#define V15_INDEX_TUPLE_BYTES  8u
#define V15_TID_BYTES          6u
#define V15_IT_TID_BLOCK       0u /* of t_tid: the block's halves, high first */
#define V15_IT_TID_NUMBER      4u
#define V15_IT_INFO            6u
#define V15_INDEX_SIZE_MASK    0x1FFFu
#define V15_INDEX_ALT_TID_MASK 0x2000u
#define V15_BT_OFFSET_MASK     0x0FFFu
#define V15_BT_IS_POSTING      0x2000u

#define V15_XL_BTREE_INSERT_BYTES 2u

#define V15_XL_SPLIT_BYTES      10u
#define V15_XL_SPLIT_LEVEL      0u
#define V15_XL_SPLIT_FIRSTRIGHT 4u
#define V15_XL_SPLIT_NEWITEM    6u
#define V15_XL_SPLIT_POSTING    8u

#define V15_XL_DEDUP_BYTES          2u
#define V15_XL_DEDUP_INTERVAL_BYTES 4u /* u16 first item, u16 items */

#define V15_XL_BTREE_VACUUM_BYTES 4u /* u16 deleted, u16 updated, at the end of both */
#define V15_XL_BTREE_DELETE_BYTES 8u

#define V15_XL_HALFDEAD_BYTES     20u
#define V15_XL_HALFDEAD_POFFSET   0u
#define V15_XL_HALFDEAD_LEFT      8u
#define V15_XL_HALFDEAD_RIGHT     12u
#define V15_XL_HALFDEAD_TOPPARENT 16u

#define V15_XL_UNLINK_BYTES     36u
#define V15_XL_UNLINK_LEFT      0u
#define V15_XL_UNLINK_RIGHT     4u
#define V15_XL_UNLINK_LEVEL     8u
#define V15_XL_UNLINK_SAFEXID   16u
#define V15_XL_UNLINK_LEAFLEFT  24u
#define V15_XL_UNLINK_LEAFRIGHT 28u
#define V15_XL_UNLINK_TOPPARENT 32u

#define V15_XL_NEWROOT_BYTES 8u
#define V15_XL_NEWROOT_LEVEL 4u

#define V15_XL_META_BYTES        28u
#define V15_XL_META_VERSION      0u /* then root, level, fastroot, fastlevel, delpages: u32 each */
#define V15_XL_META_ALLEQUAL     24u
#define V15_BTM_BYTES            48u
#define V15_BTM_VERSION          4u /* then the same six */
#define V15_BTM_SAME_BYTES       24u
#define V15_BTM_HEAP_TUPLES      32u
#define V15_BTM_ALLEQUAL         40u
#define V15_BTREE_MAGIC          0x053162u
#define V15_BT_DELETED_XID_BYTES 8u /* BTDeletedPageData */

#endif
