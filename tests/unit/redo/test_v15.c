/* Proves src/redo/v15.h against the headers of the PostgreSQL that is installed. Nothing happens at
 * run time: if it compiles, the numbers are right. */
#include "postgres.h"

#include "access/heapam_xlog.h"
#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/nbtxlog.h"
#include "access/transam.h"
#include "access/visibilitymap.h"
#include "storage/bufpage.h"
#include "storage/itemptr.h"

#include "v15.h"

#define SAME(ours_, theirs_)      _Static_assert((long long)(ours_) == (long long)(theirs_), #ours_)
#define AT(ours_, type_, member_) SAME(ours_, offsetof(type_, member_))

AT(V15_PD_FLAGS, PageHeaderData, pd_flags);
AT(V15_PD_LOWER, PageHeaderData, pd_lower);
AT(V15_PD_UPPER, PageHeaderData, pd_upper);
AT(V15_PD_SPECIAL, PageHeaderData, pd_special);
AT(V15_PD_PRUNE_XID, PageHeaderData, pd_prune_xid);
SAME(V15_PD_HAS_FREE_LINES, PD_HAS_FREE_LINES);
SAME(V15_PD_ALL_VISIBLE, PD_ALL_VISIBLE);
SAME(V15_LP_UNUSED, LP_UNUSED);
SAME(V15_LP_NORMAL, LP_NORMAL);
SAME(V15_LP_REDIRECT, LP_REDIRECT);
SAME(V15_LP_DEAD, LP_DEAD);
SAME(V15_FIRST_NORMAL_XID, FirstNormalTransactionId);
SAME(V15_FROZEN_XID, FrozenTransactionId);

SAME(V15_HEAP_TUPLE_BYTES, SizeofHeapTupleHeader);
SAME(V15_HEAP_TUPLES_MAX, MaxHeapTuplesPerPage);
AT(V15_T_XMIN, HeapTupleHeaderData, t_choice.t_heap.t_xmin);
AT(V15_T_XMAX, HeapTupleHeaderData, t_choice.t_heap.t_xmax);
AT(V15_T_CID, HeapTupleHeaderData, t_choice.t_heap.t_field3);
AT(V15_T_CTID, HeapTupleHeaderData, t_ctid);
AT(V15_T_INFOMASK2, HeapTupleHeaderData, t_infomask2);
AT(V15_T_INFOMASK, HeapTupleHeaderData, t_infomask);
AT(V15_T_HOFF, HeapTupleHeaderData, t_hoff);
SAME(V15_HEAP_XMAX_KEYSHR_LOCK, HEAP_XMAX_KEYSHR_LOCK);
SAME(V15_HEAP_COMBOCID, HEAP_COMBOCID);
SAME(V15_HEAP_XMAX_EXCL_LOCK, HEAP_XMAX_EXCL_LOCK);
SAME(V15_HEAP_XMAX_LOCK_ONLY, HEAP_XMAX_LOCK_ONLY);
SAME(V15_HEAP_XMAX_COMMITTED, HEAP_XMAX_COMMITTED);
SAME(V15_HEAP_XMAX_INVALID, HEAP_XMAX_INVALID);
SAME(V15_HEAP_XMAX_IS_MULTI, HEAP_XMAX_IS_MULTI);
SAME(V15_HEAP_MOVED, HEAP_MOVED);
SAME(V15_HEAP_KEYS_UPDATED, HEAP_KEYS_UPDATED);
SAME(V15_HEAP_HOT_UPDATED, HEAP_HOT_UPDATED);
SAME(V15_HEAP_XMAX_BITS, HEAP_XMAX_BITS);
SAME(V15_HEAP_LOCK_MASK, HEAP_LOCK_MASK);
SAME(V15_MOVED_PARTITIONS_OFFSET, MovedPartitionsOffsetNumber);

SAME(V15_HEAP_OPMASK, XLOG_HEAP_OPMASK);
SAME(V15_HEAP_INIT_PAGE, XLOG_HEAP_INIT_PAGE);
SAME(V15_HEAP_INSERT, XLOG_HEAP_INSERT);
SAME(V15_HEAP_DELETE, XLOG_HEAP_DELETE);
SAME(V15_HEAP_UPDATE, XLOG_HEAP_UPDATE);
SAME(V15_HEAP_HOT_UPDATE, XLOG_HEAP_HOT_UPDATE);
SAME(V15_HEAP_CONFIRM, XLOG_HEAP_CONFIRM);
SAME(V15_HEAP_LOCK, XLOG_HEAP_LOCK);
SAME(V15_HEAP_INPLACE, XLOG_HEAP_INPLACE);
SAME(V15_HEAP2_PRUNE, XLOG_HEAP2_PRUNE);
SAME(V15_HEAP2_VACUUM, XLOG_HEAP2_VACUUM);
SAME(V15_HEAP2_FREEZE_PAGE, XLOG_HEAP2_FREEZE_PAGE);
SAME(V15_HEAP2_VISIBLE, XLOG_HEAP2_VISIBLE);
SAME(V15_HEAP2_MULTI_INSERT, XLOG_HEAP2_MULTI_INSERT);
SAME(V15_HEAP2_LOCK_UPDATED, XLOG_HEAP2_LOCK_UPDATED);

SAME(V15_XLHL_XMAX_IS_MULTI, XLHL_XMAX_IS_MULTI);
SAME(V15_XLHL_XMAX_LOCK_ONLY, XLHL_XMAX_LOCK_ONLY);
SAME(V15_XLHL_XMAX_EXCL_LOCK, XLHL_XMAX_EXCL_LOCK);
SAME(V15_XLHL_XMAX_KEYSHR_LOCK, XLHL_XMAX_KEYSHR_LOCK);
SAME(V15_XLHL_KEYS_UPDATED, XLHL_KEYS_UPDATED);
SAME(V15_XLH_INSERT_ALL_VISIBLE_CLEARED, XLH_INSERT_ALL_VISIBLE_CLEARED);
SAME(V15_XLH_INSERT_ALL_FROZEN_SET, XLH_INSERT_ALL_FROZEN_SET);
SAME(V15_XLH_INSERT_KNOWN, XLH_INSERT_ALL_VISIBLE_CLEARED | XLH_INSERT_LAST_IN_MULTI |
                               XLH_INSERT_IS_SPECULATIVE | XLH_INSERT_CONTAINS_NEW_TUPLE |
                               XLH_INSERT_ON_TOAST_RELATION | XLH_INSERT_ALL_FROZEN_SET);
SAME(V15_XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED, XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED);
SAME(V15_XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED, XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED);
SAME(V15_XLH_UPDATE_PREFIX_FROM_OLD, XLH_UPDATE_PREFIX_FROM_OLD);
SAME(V15_XLH_UPDATE_SUFFIX_FROM_OLD, XLH_UPDATE_SUFFIX_FROM_OLD);
SAME(V15_XLH_UPDATE_KNOWN, XLH_UPDATE_OLD_ALL_VISIBLE_CLEARED | XLH_UPDATE_NEW_ALL_VISIBLE_CLEARED |
                               XLH_UPDATE_CONTAINS_OLD | XLH_UPDATE_CONTAINS_NEW_TUPLE |
                               XLH_UPDATE_PREFIX_FROM_OLD | XLH_UPDATE_SUFFIX_FROM_OLD);
SAME(V15_XLH_DELETE_ALL_VISIBLE_CLEARED, XLH_DELETE_ALL_VISIBLE_CLEARED);
SAME(V15_XLH_DELETE_IS_SUPER, XLH_DELETE_IS_SUPER);
SAME(V15_XLH_DELETE_IS_PARTITION_MOVE, XLH_DELETE_IS_PARTITION_MOVE);
SAME(V15_XLH_DELETE_KNOWN, XLH_DELETE_ALL_VISIBLE_CLEARED | XLH_DELETE_CONTAINS_OLD |
                               XLH_DELETE_IS_SUPER | XLH_DELETE_IS_PARTITION_MOVE);

SAME(V15_XL_HEAP_HEADER_BYTES, SizeOfHeapHeader);
AT(V15_XL_HEADER_INFOMASK2, xl_heap_header, t_infomask2);
AT(V15_XL_HEADER_INFOMASK, xl_heap_header, t_infomask);
AT(V15_XL_HEADER_HOFF, xl_heap_header, t_hoff);
SAME(V15_XL_INSERT_BYTES, SizeOfHeapInsert);
AT(V15_XL_INSERT_OFFNUM, xl_heap_insert, offnum);
AT(V15_XL_INSERT_FLAGS, xl_heap_insert, flags);
SAME(V15_XL_DELETE_BYTES, SizeOfHeapDelete);
AT(V15_XL_DELETE_XMAX, xl_heap_delete, xmax);
AT(V15_XL_DELETE_OFFNUM, xl_heap_delete, offnum);
AT(V15_XL_DELETE_INFOBITS, xl_heap_delete, infobits_set);
AT(V15_XL_DELETE_FLAGS, xl_heap_delete, flags);
SAME(V15_XL_UPDATE_BYTES, SizeOfHeapUpdate);
AT(V15_XL_UPDATE_OLD_XMAX, xl_heap_update, old_xmax);
AT(V15_XL_UPDATE_OLD_OFFNUM, xl_heap_update, old_offnum);
AT(V15_XL_UPDATE_OLD_INFOBITS, xl_heap_update, old_infobits_set);
AT(V15_XL_UPDATE_FLAGS, xl_heap_update, flags);
AT(V15_XL_UPDATE_NEW_XMAX, xl_heap_update, new_xmax);
AT(V15_XL_UPDATE_NEW_OFFNUM, xl_heap_update, new_offnum);
SAME(V15_XL_LOCK_BYTES, SizeOfHeapLock);
SAME(V15_XL_LOCK_BYTES, SizeOfHeapLockUpdated);
AT(V15_XL_LOCK_XID, xl_heap_lock, locking_xid);
AT(V15_XL_LOCK_XID, xl_heap_lock_updated, xmax);
AT(V15_XL_LOCK_OFFNUM, xl_heap_lock, offnum);
AT(V15_XL_LOCK_OFFNUM, xl_heap_lock_updated, offnum);
AT(V15_XL_LOCK_INFOBITS, xl_heap_lock, infobits_set);
AT(V15_XL_LOCK_INFOBITS, xl_heap_lock_updated, infobits_set);
SAME(V15_XL_OFFNUM_BYTES, SizeOfHeapConfirm);
SAME(V15_XL_OFFNUM_BYTES, SizeOfHeapInplace);
SAME(V15_XL_MULTI_INSERT_BYTES, SizeOfHeapMultiInsert);
AT(V15_XL_MULTI_INSERT_FLAGS, xl_heap_multi_insert, flags);
AT(V15_XL_MULTI_INSERT_NTUPLES, xl_heap_multi_insert, ntuples);
SAME(V15_XL_MULTI_TUPLE_BYTES, SizeOfMultiInsertTuple);
SAME(V15_XL_PRUNE_BYTES, SizeOfHeapPrune);
AT(V15_XL_PRUNE_NREDIRECTED, xl_heap_prune, nredirected);
AT(V15_XL_PRUNE_NDEAD, xl_heap_prune, ndead);
SAME(V15_XL_VACUUM_BYTES, SizeOfHeapVacuum);
SAME(V15_XL_FREEZE_BYTES, SizeOfHeapFreezePage);
AT(V15_XL_FREEZE_NTUPLES, xl_heap_freeze_page, ntuples);
SAME(V15_XL_FREEZE_TUPLE_BYTES, sizeof(xl_heap_freeze_tuple));
AT(V15_XL_FREEZE_TUPLE_XMAX, xl_heap_freeze_tuple, xmax);
AT(V15_XL_FREEZE_TUPLE_OFFSET, xl_heap_freeze_tuple, offset);
AT(V15_XL_FREEZE_TUPLE_INFOMASK2, xl_heap_freeze_tuple, t_infomask2);
AT(V15_XL_FREEZE_TUPLE_INFOMASK, xl_heap_freeze_tuple, t_infomask);
AT(V15_XL_FREEZE_TUPLE_FLAGS, xl_heap_freeze_tuple, frzflags);
SAME(V15_XLH_FREEZE_XVAC, XLH_FREEZE_XVAC);
SAME(V15_XLH_INVALID_XVAC, XLH_INVALID_XVAC);
SAME(V15_XL_VISIBLE_BYTES, SizeOfHeapVisible);
AT(V15_XL_VISIBLE_FLAGS, xl_heap_visible, flags);
SAME(V15_VM_VALID_BITS, VISIBILITYMAP_VALID_BITS);

SAME(V15_BT_OPAQUE_BYTES, sizeof(BTPageOpaqueData));
AT(V15_BTPO_PREV, BTPageOpaqueData, btpo_prev);
AT(V15_BTPO_NEXT, BTPageOpaqueData, btpo_next);
AT(V15_BTPO_LEVEL, BTPageOpaqueData, btpo_level);
AT(V15_BTPO_FLAGS, BTPageOpaqueData, btpo_flags);
AT(V15_BTPO_CYCLEID, BTPageOpaqueData, btpo_cycleid);
SAME(V15_BTP_LEAF, BTP_LEAF);
SAME(V15_BTP_ROOT, BTP_ROOT);
SAME(V15_BTP_DELETED, BTP_DELETED);
SAME(V15_BTP_META, BTP_META);
SAME(V15_BTP_HALF_DEAD, BTP_HALF_DEAD);
SAME(V15_BTP_HAS_GARBAGE, BTP_HAS_GARBAGE);
SAME(V15_BTP_INCOMPLETE_SPLIT, BTP_INCOMPLETE_SPLIT);
SAME(V15_BTP_HAS_FULLXID, BTP_HAS_FULLXID);
SAME(V15_BT_MAX_ITEM_BYTES, MAXALIGN_DOWN((BLCKSZ -
                                           MAXALIGN(SizeOfPageHeaderData + 3 * sizeof(ItemIdData) +
                                                    3 * sizeof(ItemPointerData)) -
                                           MAXALIGN(sizeof(BTPageOpaqueData))) /
                                          3));
SAME(V15_INDEX_TUPLES_MAX, MaxIndexTuplesPerPage);
SAME(V15_BTREE_INSERT_LEAF, XLOG_BTREE_INSERT_LEAF);
SAME(V15_BTREE_INSERT_UPPER, XLOG_BTREE_INSERT_UPPER);
SAME(V15_BTREE_INSERT_META, XLOG_BTREE_INSERT_META);
SAME(V15_BTREE_SPLIT_L, XLOG_BTREE_SPLIT_L);
SAME(V15_BTREE_SPLIT_R, XLOG_BTREE_SPLIT_R);
SAME(V15_BTREE_INSERT_POST, XLOG_BTREE_INSERT_POST);
SAME(V15_BTREE_DEDUP, XLOG_BTREE_DEDUP);
SAME(V15_BTREE_DELETE, XLOG_BTREE_DELETE);
SAME(V15_BTREE_UNLINK_PAGE, XLOG_BTREE_UNLINK_PAGE);
SAME(V15_BTREE_UNLINK_PAGE_META, XLOG_BTREE_UNLINK_PAGE_META);
SAME(V15_BTREE_NEWROOT, XLOG_BTREE_NEWROOT);
SAME(V15_BTREE_MARK_PAGE_HALFDEAD, XLOG_BTREE_MARK_PAGE_HALFDEAD);
SAME(V15_BTREE_VACUUM, XLOG_BTREE_VACUUM);
SAME(V15_BTREE_META_CLEANUP, XLOG_BTREE_META_CLEANUP);

SAME(V15_INDEX_TUPLE_BYTES, sizeof(IndexTupleData));
SAME(V15_TID_BYTES, sizeof(ItemPointerData));
AT(V15_IT_TID_BLOCK, IndexTupleData, t_tid.ip_blkid.bi_hi);
AT(V15_IT_TID_NUMBER, IndexTupleData, t_tid.ip_posid);
AT(V15_IT_INFO, IndexTupleData, t_info);
SAME(V15_INDEX_SIZE_MASK, INDEX_SIZE_MASK);
SAME(V15_INDEX_ALT_TID_MASK, INDEX_ALT_TID_MASK);
SAME(V15_BT_OFFSET_MASK, BT_OFFSET_MASK);
SAME(V15_BT_IS_POSTING, BT_IS_POSTING);

SAME(V15_XL_BTREE_INSERT_BYTES, SizeOfBtreeInsert);
SAME(V15_XL_SPLIT_BYTES, SizeOfBtreeSplit);
AT(V15_XL_SPLIT_LEVEL, xl_btree_split, level);
AT(V15_XL_SPLIT_FIRSTRIGHT, xl_btree_split, firstrightoff);
AT(V15_XL_SPLIT_NEWITEM, xl_btree_split, newitemoff);
AT(V15_XL_SPLIT_POSTING, xl_btree_split, postingoff);
SAME(V15_XL_DEDUP_BYTES, SizeOfBtreeDedup);
SAME(V15_XL_DEDUP_INTERVAL_BYTES, sizeof(BTDedupInterval));
SAME(V15_XL_BTREE_VACUUM_BYTES, SizeOfBtreeVacuum);
SAME(V15_XL_BTREE_DELETE_BYTES, SizeOfBtreeDelete);
AT(V15_XL_BTREE_DELETE_BYTES - 4, xl_btree_delete, ndeleted);
AT(V15_XL_BTREE_DELETE_BYTES - 2, xl_btree_delete, nupdated);
SAME(V15_XL_HALFDEAD_BYTES, SizeOfBtreeMarkPageHalfDead);
AT(V15_XL_HALFDEAD_POFFSET, xl_btree_mark_page_halfdead, poffset);
AT(V15_XL_HALFDEAD_LEFT, xl_btree_mark_page_halfdead, leftblk);
AT(V15_XL_HALFDEAD_RIGHT, xl_btree_mark_page_halfdead, rightblk);
AT(V15_XL_HALFDEAD_TOPPARENT, xl_btree_mark_page_halfdead, topparent);
SAME(V15_XL_UNLINK_BYTES, SizeOfBtreeUnlinkPage);
AT(V15_XL_UNLINK_LEFT, xl_btree_unlink_page, leftsib);
AT(V15_XL_UNLINK_RIGHT, xl_btree_unlink_page, rightsib);
AT(V15_XL_UNLINK_LEVEL, xl_btree_unlink_page, level);
AT(V15_XL_UNLINK_SAFEXID, xl_btree_unlink_page, safexid);
AT(V15_XL_UNLINK_LEAFLEFT, xl_btree_unlink_page, leafleftsib);
AT(V15_XL_UNLINK_LEAFRIGHT, xl_btree_unlink_page, leafrightsib);
AT(V15_XL_UNLINK_TOPPARENT, xl_btree_unlink_page, leaftopparent);
SAME(V15_XL_NEWROOT_BYTES, SizeOfBtreeNewroot);
AT(V15_XL_NEWROOT_LEVEL, xl_btree_newroot, level);
SAME(V15_XL_META_BYTES, sizeof(xl_btree_metadata));
AT(V15_XL_META_VERSION, xl_btree_metadata, version);
AT(V15_XL_META_VERSION + V15_BTM_SAME_BYTES - 4, xl_btree_metadata, last_cleanup_num_delpages);
AT(V15_XL_META_ALLEQUAL, xl_btree_metadata, allequalimage);
SAME(V15_BTM_BYTES, sizeof(BTMetaPageData));
AT(V15_BTM_VERSION, BTMetaPageData, btm_version);
AT(V15_BTM_VERSION + V15_BTM_SAME_BYTES - 4, BTMetaPageData, btm_last_cleanup_num_delpages);
AT(V15_BTM_HEAP_TUPLES, BTMetaPageData, btm_last_cleanup_num_heap_tuples);
AT(V15_BTM_ALLEQUAL, BTMetaPageData, btm_allequalimage);
SAME(V15_BTREE_MAGIC, BTREE_MAGIC);
SAME(V15_BT_DELETED_XID_BYTES, sizeof(BTDeletedPageData));

int main(void)
{
    return 0;
}
