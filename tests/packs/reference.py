"""What WeChat pushes and what of it is personal, as the protocol's documentation has it (sections on messages, events).

Classes: ID a pseudonymous id of a person, P direct personal data, F free content a person wrote, H a handle or link to
content, S a secret, B a business reference that can be linked to a person. Fields of no class are not listed.
`FromUserName` is an ID in all of them.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MESSAGES = _words("""
text image voice video shortvideo location link file miniprogrampage device_text device_event
""")

EVENTS = _words("""
subscribe unsubscribe scan location click view view_miniprogram scancode_push scancode_waitmsg
pic_sysphoto pic_photo_or_album pic_weixin location_select
templatesendjobfinish masssendjobfinish freepublishjobfinish
subscribe_msg_popup_event subscribe_msg_change_event subscribe_msg_sent_event
kf_create_session kf_close_session kf_switch_session user_enter_tempsession user_authorization_revoke user_info_modified
card_pass_check card_not_pass_check user_get_card user_gifting_card user_del_card user_view_card
user_enter_session_from_card user_consume_card user_pay_from_pay_cell update_member_card submit_membercard_user_info
card_sku_remind card_merchant_check_result card_pay_order
giftcard_pay_done giftcard_send_to_friend giftcard_user_accept
user_authorize_invoice submit_invoice_title update_invoice_status cloud_invoice_invoiceresult_event merchant_order
channels_ec_vip_user_info_get channels_ec_vip_user_auto_add complaint_callback
add_waybill add_single_waybill cancel_waybill cancel_single_waybill query_single_waybill check_biz get_quota
get_pre_auth_code get_auth_info
wxa_media_check qualification_verify_success naming_verify_success annual_renew verify_expired
qualification_verify_fail naming_verify_fail weapp_audit_success weapp_audit_fail weapp_audit_delay
wxa_nickname_audit wxa_category_audit wxa_privacy_apply wxa_illegal_record guide_qrcode_scan_event
wificonnected shakearoundusershake poi_check_notify create_map_poi_audit_info
xpay_goods_deliver_notify xpay_coin_pay_notify xpay_refund_notify debug_demo
""")

# Families the documentation names by their beginning only.
FAMILIES = ("channels_ec_", "open_product_", "aftersale_", "funds_order_", "trade_manage_", "transport_")

# Pushed to Mini Programs as well, which may have chosen JSON.
JSON_TOO = _words("""
text image miniprogrampage event.user_enter_tempsession event.user_authorization_revoke event.user_info_modified
event.subscribe_msg_popup_event event.subscribe_msg_change_event event.subscribe_msg_sent_event event.wxa_media_check
event.weapp_audit_success event.weapp_audit_fail event.weapp_audit_delay event.xpay_goods_deliver_notify
event.xpay_coin_pay_notify event.xpay_refund_notify event.add_waybill event.complaint_callback event.debug_demo
""")

_PERSON = "Name:P Tel:P Mobile:P Company:P PostCode:P Country:P Province:P City:P Area:P Address:P"
_BEACON = "Uuid:P Major:P Minor:P Distance:P"
_CARD = "UserCardCode:B"
_WAYBILL = "OrderID:B WayBillID:B"


def _in(element: str, fields: str) -> str:
    return " ".join(f"{element}/{field}" for field in fields.split())


# Message or event -> fields with their class. A list's name stands for each of its items.
FIELDS = {
    "text": "Content:F MsgDataId:B",
    "image": "PicUrl:H MediaId:H",
    "voice": "MediaId:H MediaId16K:H Recognition:F",
    "video": "MediaId:H ThumbMediaId:H",
    "shortvideo": "MediaId:H ThumbMediaId:H",
    "location": "Location_X:P Location_Y:P Label:P",
    "link": "Title:F Description:F Url:F",
    "file": "Title:F Description:F FileKey:H FileMd5:B",
    "miniprogrampage": "Title:F PagePath:B ThumbUrl:H ThumbMediaId:H",
    "device_text": "DeviceType:B DeviceID:B SessionID:B OpenID:ID Content:F",
    "device_event": "DeviceType:B DeviceID:B SessionID:B OpenID:ID Content:F",
    "event.subscribe": "EventKey:B Ticket:S",
    "event.scan": "EventKey:B Ticket:S",
    "event.location": "Latitude:P Longitude:P",
    "event.view": "EventKey:B",
    "event.view_miniprogram": "EventKey:B",
    "event.scancode_push": "ScanCodeInfo/ScanResult:F",
    "event.scancode_waitmsg": "ScanCodeInfo/ScanResult:F",
    "event.pic_sysphoto": "SendPicsInfo/PicList/item/PicMd5Sum:B",
    "event.pic_photo_or_album": "SendPicsInfo/PicList/item/PicMd5Sum:B",
    "event.pic_weixin": "SendPicsInfo/PicList/item/PicMd5Sum:B",
    "event.location_select": _in("SendLocationInfo", "Location_X:P Location_Y:P Label:P Poiname:P"),
    "event.templatesendjobfinish": "MsgID:B",
    "event.subscribe_msg_popup_event": _in("List", "TemplateId:B SubscribeStatusString:B PopupScene:B"),
    "event.subscribe_msg_change_event": _in("List", "TemplateId:B SubscribeStatusString:B"),
    "event.subscribe_msg_sent_event": _in("List", "TemplateId:B MsgID:B ErrorCode:B ErrorStatus:B"),
    "event.kf_create_session": "KfAccount:P",
    "event.kf_close_session": "KfAccount:P",
    "event.kf_switch_session": "FromKfAccount:P ToKfAccount:P",
    "event.user_enter_tempsession": "SessionFrom:F",
    "event.user_authorization_revoke": "OpenID:ID",
    "event.user_info_modified": "openid:ID",
    "event.user_get_card": f"{_CARD} OldUserCardCode:B FriendUserName:ID UnionId:ID OuterStr:B",
    "event.user_gifting_card": f"{_CARD} FriendUserName:ID",
    "event.user_del_card": _CARD,
    "event.user_view_card": f"{_CARD} OuterStr:B",
    "event.user_enter_session_from_card": f"{_CARD} OuterStr:B",
    "event.user_consume_card": f"{_CARD} LocationName:B StaffOpenId:ID VerifyCode:S RemarkAmount:B OuterStr:B",
    "event.user_pay_from_pay_cell": f"{_CARD} TransId:B LocationName:B Fee:B OriginalFee:B",
    "event.update_member_card": f"{_CARD} ModifyBonus:B ModifyBalance:B",
    "event.submit_membercard_user_info": _CARD,
    "event.card_pay_order": "OrderId:B Desc:B FreeCoinCount:B PayCoinCount:B Memo:B ReceiptInfo:B",
    "event.giftcard_pay_done": "OrderId:B",
    "event.giftcard_send_to_friend": "OrderId:B",
    "event.giftcard_user_accept": "OrderId:B",
    "event.user_authorize_invoice": "SuccOrderId:B FailOrderId:B",
    "event.submit_invoice_title": "title:P tax_no:P addr:P phone:P bank_type:P bank_no:P attach:P",
    "event.update_invoice_status": "Code:B",
    "event.cloud_invoice_invoiceresult_event": "fpqqlsh:B nsrsbh:P",
    "event.merchant_order": "OrderId:B SkuInfo:B",
    "event.open_product_order_analyze": "order_info/openid:ID order_info/order_id:B order_info/out_order_id:B",
    "event.channels_ec_sharer_change": "openid:ID",
    "event.channels_ec_vip_user_auto_add": "info/outer_userid:ID info/identity:P",
    "event.channels_ec_order_pay": "order_info/order_id:B",
    "event.trade_manage_remind_shipping": "transaction_id:B merchant_trade_no:B",
    "event.complaint_callback": "open_id:ID phone_number:P customer_material_content:F order_id:B total_cost:B"
    " history/content:F history/media_id_list:H",
    "event.add_waybill": f"Token:S BizPwd:S Remark:F {_WAYBILL} {_in('Sender', _PERSON)} {_in('Receiver', _PERSON)}",
    "event.cancel_waybill": f"BizPwd:S {_WAYBILL}",
    "event.add_single_waybill": "Token:S AccountPwd:S Remark:F Sender/Name:P Sender/Mobile:P Receiver/Address:P"
    " Receiver/Street:P Receiver/Id:P",
    "event.check_biz": "BizPwd:S ShopContact:P ShopTelphone:P SenderProvince:P SenderCity:P SenderArea:P"
    " SenderAddress:P",
    "event.get_quota": "BizPwd:S",
    "event.transport_add_order": "sender/name:P sender/phone:P sender/lng:P sender/lat:P receiver/name:P"
    " receiver/phone:P receiver/address:P receiver/address_detail:P receiver/lng:P receiver/lat:P wx_token:S"
    " order_info/note:F",
    "event.update_waybill_status": "agent/name:P agent/phone:P",
    "event.guide_qrcode_scan_event": _in("GuideScanEvent", "qrcode_guide_openid:ID openid:ID qrcode_guide_account:P"),
    "event.wificonnected": "VendorId:P PlaceId:P DeviceNo:P",
    "event.shakearoundusershake": f"{_in('ChosenBeacon', _BEACON)} {_in('AroundBeacons/AroundBeacon', _BEACON)}",
    "event.xpay_goods_deliver_notify": "OpenId:ID OutTradeNo:B WeChatPayInfo/MchOrderNo:B WeChatPayInfo/TransactionId:B"
    " WeChatPayInfo/PaidTime:B GoodsInfo/ActualPrice:B GoodsInfo/Attach:B",
    "event.xpay_coin_pay_notify": "OpenId:ID OutTradeNo:B WeChatPayInfo/TransactionId:B CoinInfo/Attach:B",
    "event.xpay_refund_notify": "OpenId:ID MchRefundId:B WxRefundId:B MchOrderId:B WxOrderId:B RefundFee:B",
}

# Personal by their name, wherever they stand: the families are too many to be listed field by field.
ID_NAMES = frozenset({"openid", "open_id", "friendusername", "staffopenid", "unionid", "outer_userid", "fromusername"})
PERSONAL_NAMES = ID_NAMES | _words(
    """phone phone_number tel mobile name shopcontact shoptelphone address address_detail addr street lng lat latitude
    longitude location_x location_y poiname content picurl mediaid mediaid16k thumbmediaid thumburl filekey ticket
    token bizpwd accountpwd verifycode wx_token kfaccount fromkfaccount tokfaccount remark title bank_no tax_no nsrsbh
    recognition scanresult sessionfrom media_id_list customer_material_content"""
)
